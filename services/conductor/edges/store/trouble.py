"""What PostgreSQL's errors mean for what was sent: whether it may have been done, whether it may be
tried again at once, and whether a connection is left.

Owns the classes of trouble; docs/troubles.md tells them to people. Does not try anything again.
"""

import asyncpg

# The connection, or the server behind it, went away: what was sent may have been done.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    # Shut down, crashed, starting, dropped, idle too long; a cancelled statement is told apart.
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidTransactionStateError,
    # A standby that is not promoted yet, or a primary that has become one.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    ConnectionError,
    OSError,
    TimeoutError,
)
# No connection was made: whatever the server says, nothing was sent.
NOT_REACHED = (asyncpg.PostgresError, *LOST)
# The server rolled back what was sent, because of others: the same may do at once.
ROLLED_BACK = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
)
# The server rolled it back for want of room, or of a working disk: that does not pass in a moment.
NO_MEANS = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)
# The conductor waits for as long as this is all that keeps it from its database when it begins.
NOT_THERE_YET = (
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.PostgresSystemError,
    OSError,
    TimeoutError,
)


def is_unsendable(error: BaseException) -> bool:
    """Whether a value could not be put into what the server takes: nothing was sent."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
