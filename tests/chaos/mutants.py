"""Protections of the services switched off one at a time, to see that chaos notices: by altered
SQL in the database of the run, or by what `clock/sitecustomize.py` loads into its processes.

Exists in tests only; no service knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`sql` is done once, when the cloud is up; `python` runs in each process of `service`."""

    sql: str = ""
    service: str = ""
    python: str = ""


def _trigger(table: str, when: str, body: str) -> str:
    return (
        f"CREATE FUNCTION mutant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f" CREATE TRIGGER mutant BEFORE {when} ON {table} FOR EACH ROW EXECUTE FUNCTION mutant();"
    )


def load(name: str, argv: list[str]) -> None:
    """In a process of the cloud: breaks it, if it is one that the mutant is about."""
    mutant = MUTANTS[name]
    if mutant.python and f"services.{mutant.service}" in argv:
        exec(mutant.python, {})  # our own words, above


MUTANTS = {
    "the fingerprint ignored": Mutant(
        service="conductor",
        python="""
from services.conductor.flows import answer
made = answer.Asked.__init__
def forgetful(self, *given, **named):
    made(self, *given, **named)
    object.__setattr__(self, "fingerprint", b"all the same")
answer.Asked.__init__ = forgetful
""",
    ),
    "a change record left out": Mutant(
        sql=_trigger(
            "change", "INSERT",
            "IF NEW.kind = 1 AND NEW.revision % 40 = 0 THEN RETURN NULL; END IF; RETURN NEW;",
        )
    ),
    "the look-again time not set": Mutant(
        sql=_trigger(
            "operation", "INSERT OR UPDATE", "NEW.look_again_at := 'infinity'; RETURN NEW;"
        )
    ),
    "the ledger not given back": Mutant(
        sql=_trigger(
            "host", "UPDATE",
            "NEW.used_vcpus := greatest(NEW.used_vcpus, OLD.used_vcpus); RETURN NEW;",
        )
    ),
    "an undo skipped": Mutant(
        service="compute",
        python="""
from services.compute.edges.drivers import fake
erased = []
whole = fake.FakeDriver.erase_guest
async def careless(self, identity):
    erased.append(identity)
    if len(erased) % 5:
        await whole(self, identity)
    else:
        self._seen.pop(identity.instance_id, None)
fake.FakeDriver.erase_guest = careless
""",
    ),
}  # fmt: skip
