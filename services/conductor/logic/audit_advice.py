"""How each kind of difference can come about, and what to do about it: words that a person can act
on.
"""

from services.conductor.logic.audit import Kind

_RECORDS = "the database was changed behind stead's back, or stead has a bug"
_TELL = "keep the conductor's log and a backup, and report it"

# Kind: (cause, mend).
ADVICE: dict[Kind, tuple[str, str]] = {
    Kind.LEDGER_DIFFERS: (
        _RECORDS,
        f"{_TELL}; disable the host until its ledger is set to the sum of its claims",
    ),
    Kind.QUOTA_DIFFERS: (
        _RECORDS,
        f"{_TELL}; the project's use is to be set to the sum of its living instances",
    ),
    Kind.INSTANCE_WITHOUT_CLAIM: (
        _RECORDS,
        f"{_TELL}; `stead instance delete` removes the instance, its host keeps what it has",
    ),
    Kind.CLAIM_WITHOUT_INSTANCE: (
        _RECORDS,
        f"{_TELL}; the claim keeps its host's room until it is removed",
    ),
    Kind.TASK_WITHOUT_OPERATION: (
        _RECORDS,
        f"{_TELL}; `stead instance delete` is accepted in any state",
    ),
    Kind.OPERATION_WITHOUT_TASK: (_RECORDS, f"{_TELL}; the operation ends at its deadline"),
    Kind.OPERATION_WITHOUT_INSTANCE: (_RECORDS, f"{_TELL}; the operation can never end as asked"),
    Kind.OPERATION_NOT_LOOKED_AT: (
        "no conductor runs, or it cannot keep up",
        "look at `stead status` and the conductor's log; it goes on where it was",
    ),
    Kind.OPERATION_WITHOUT_DEADLINE: (
        _RECORDS,
        f"{_TELL}; `stead instance delete` takes the operation's place",
    ),
    Kind.OPERATION_OVERDUE: (
        "no conductor has looked at it since, or its end is refused each time",
        "look at `stead operation show` and the conductor's log",
    ),
    Kind.GUEST_WITHOUT_CLAIM: (
        (
            "the database was set back to before the guest was made, the host was removed and came "
            "back, or the guest was made by hand"
        ),
        "it is left as it is; save what is in it, then `stead host discard-guest`",
    ),
    Kind.GUEST_EPOCH_OLDER: (
        (
            "the instance was built elsewhere while this host could not be heard, and the host's "
            "claim was removed since"
        ),
        "it is left as it is; save what is in it, then `stead host discard-guest`",
    ),
    Kind.GUEST_EPOCH_ABOVE_HEAD: (
        "the guest is of a later history: the database was set back",
        "it is left as it is; save what is in it, then `stead host discard-guest`",
    ),
    Kind.CLAIM_WITHOUT_GUEST: (
        (
            "the guest was removed behind stead's back, or the database was set back to before its "
            "deletion"
        ),
        "bring its files back on the host, or `stead instance delete`",
    ),
    Kind.CLAIM_NOT_LEFT: (
        (
            "the host cannot erase the guest, its word that nothing is left of it is not heard, or "
            "stead has a bug"
        ),
        (
            "look at the compute service's log on that host; end its agent, which begins anew when "
            "it is back; if it stays, report it"
        ),
    ),
    Kind.POWER_DIFFERS: (
        "the host's observation has not been heard, or the host cannot stop the guest",
        "look at the compute service's log on that host; restart it",
    ),
    Kind.HOST_NOT_COMPARED: (
        (
            "the host is down or cut off, its agent is older than the conductor, or it has too "
            "many guests"
        ),
        "look at `stead host show` and the compute service's log on that host; audit again",
    ),
}
