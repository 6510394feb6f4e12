"""What the cluster tests do and look at: a namespace with campaigns, the books, the carrier's calls."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psutil
import psycopg
import yaml
from psycopg.rows import dict_row

from callfleet.checkout import sample
from callfleet.installation import Installation

# An account at the simulator beside the installation's, for campaigns that bring their own: SID and token.
OWN_ACCOUNT = ("AC" + secrets.token_hex(16), secrets.token_hex(16))
CONSENT = {"kind": "express-written", "source": "web form", "time": "2026-01-15T10:00:00Z"}

# Run inside the simulator's pod, whose environment holds the account's token: it is in no command line.
_POST = (
    "import base64,os,sys,urllib.request as u;"
    "k=os.environ['TWILIO_ACCOUNT_SID']+':'+os.environ['TWILIO_AUTH_TOKEN'];"
    "r=u.Request('http://127.0.0.1:8090'+sys.argv[1],sys.argv[2].encode());"
    "r.add_header('Authorization','Basic '+base64.b64encode(k.encode()).decode());"
    "u.urlopen(r,timeout=20).read()"
)


def demo_documents() -> tuple[dict[str, Any], dict[str, Any]]:
    """The sample's Budget and Campaign."""
    documents = list(yaml.safe_load_all(sample("demo-campaign.yaml").read_text()))
    by_kind = {item["kind"]: item for item in documents}
    return by_kind["Budget"], by_kind["Campaign"]


@dataclass
class World:
    """One test's namespace in the run's installation."""

    installation: Installation
    namespace: str

    def create(self) -> None:
        """Makes the namespace."""
        self.installation.kubectl("create", "namespace", self.namespace)

    def delete(self) -> None:
        """Removes the namespace; its worker pods end at once, whatever their grace."""
        self.installation.kubectl("delete", "campaigns,budgets,callsessions", "--all", "-n", self.namespace)
        self.installation.kubectl("delete", "pods", "--all", "-n", self.namespace, "--grace-period=1", "--wait=false")
        self.installation.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def apply(self, *documents: Mapping[str, Any]) -> str:
        """kubectl apply."""
        return self.installation.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def budget(self, total: str, name: str = "demo-budget") -> dict[str, Any]:
        """The sample's Budget with another limit."""
        body, _ = demo_documents()
        body["metadata"]["name"] = name
        body["spec"]["limits"] = {"total": total}
        return body

    def campaign(
        self,
        phones: Sequence[str],
        *,
        name: str = "spring-leads",
        without_consent: Sequence[str] = (),
        questions: int | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """The sample's Campaign with other people, and `spec` on top; `questions`: only so many, for a short talk."""
        _, body = demo_documents()
        body["spec"]["agent"]["questions"] = body["spec"]["agent"]["questions"][:questions]
        body["metadata"]["name"] = name
        inline = [{"phone": phone, "consent": CONSENT} for phone in phones]
        inline += [{"phone": phone} for phone in without_consent]
        body["spec"] = {**body["spec"], "contacts": {"inline": inline}, **spec}
        return body

    def patch_session(self, index: int, patch: Mapping[str, Any]) -> None:
        """Merges a patch into the session at `index`."""
        name = self.sessions()[index]["metadata"]["name"]
        self.installation.kubectl(
            "patch", "callsession", name, "-n", self.namespace, "--type=merge", "-p", json.dumps(patch)
        )

    def sessions(self) -> list[dict[str, Any]]:
        """The namespace's CallSessions in their campaign's order."""
        found = self.installation.objects("callsessions", self.namespace)
        return sorted(found, key=lambda item: int(item["metadata"]["annotations"]["callfleet.dev/position"]))

    def session(self, campaign: str, position: int = 0) -> dict[str, Any]:
        """A campaign's session; one without a status while there is none."""
        found = self.installation.objects("callsessions", self.namespace)
        mine = [
            item
            for item in found
            if item["spec"]["campaign"] == campaign
            and item["metadata"]["annotations"]["callfleet.dev/position"] == str(position)
        ]
        return {"status": {}, **mine[0]} if mine else {"status": {}}

    def states(self) -> list[str]:
        """Each session's state, with the reason of a waiting one."""
        return [
            item.get("status", {}).get("reason") or item.get("status", {}).get("state", "") for item in self.sessions()
        ]

    def rows(self, query: LiteralString, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of the books, read as the schema's owner."""
        with psycopg.connect(self.installation.databases.owner, row_factory=dict_row) as connection:
            return connection.execute(query, {"namespace": self.namespace, **parameters}).fetchall()

    def change(self, statement: LiteralString, **parameters: Any) -> None:
        """Changes the books, as the schema's owner may: a clock moved back, a switch that has no command yet."""
        with psycopg.connect(self.installation.databases.owner) as connection:
            connection.execute(statement, {"namespace": self.namespace, **parameters})

    def attempts(self) -> list[dict[str, Any]]:
        """The namespace's attempts, oldest first."""
        return self.rows("SELECT * FROM dial_attempts WHERE namespace = %(namespace)s ORDER BY granted_at")

    def budget_balance(self) -> dict[str, Any]:
        """The namespace's budget in the ledger."""
        return self.limited("kind = 'Budget'")

    def limited(self, where: LiteralString) -> dict[str, Any]:
        """The one account with a limit, of those that are so."""
        query = "SELECT * FROM accounts WHERE namespace = %(namespace)s AND limit_micros IS NOT NULL AND "
        (row,) = self.rows(query + where)
        return row

    def carrier_calls(self, to: str, login: tuple[str, str] | None = None) -> list[dict[str, Any]]:
        """The carrier's calls to a number, of the installation's account or another."""
        sid = login[0] if login else self.installation.account_sid
        path = f"/2010-04-01/Accounts/{sid}/Calls.json?PageSize=100"
        calls: list[dict[str, Any]] = self.installation.simulator_get(path, login)["calls"]
        return [call for call in calls if call["to"] == to]

    def fault(self, **fault: Any) -> None:
        """Switches one of the simulator's faults on (docs/simulator.md)."""
        self.installation.kubectl(
            "exec", "-n", self.installation.namespace, "deploy/callfleet-simulator", "--",
            "python", "-c", _POST, "/simulator/faults", json.dumps(fault),
        )  # fmt: skip

    def complaints(self) -> list[str]:
        """Warnings and errors in the logs of the namespace's workers and of the simulator, at most 50 of each."""
        pods = [
            (self.namespace, item["metadata"]["name"]) for item in self.installation.objects("pods", self.namespace)
        ]
        found: list[str] = []
        for namespace, pod in [*pods, (self.installation.namespace, "deploy/callfleet-simulator")]:
            lines = self.installation.kubectl("logs", "-n", namespace, pod, "--tail=5000").splitlines()
            found += [line for line in lines if '"warning"' in line or '"error"' in line][-50:]
        return found

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        """Waits until the condition holds; answers its value. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.5)
        raise TimeoutError(f"not within {timeout_s:.0f} s: {what}; sessions: {self.states()}")

    def kill_operator(self) -> int:
        """kill -9 of this installation's operator process; answers its process id."""
        for process in psutil.process_iter():
            try:
                if "callfleet_operator.main" not in process.cmdline():
                    continue
                if process.environ().get("DATABASE_URL") != self.installation.databases.owner:
                    continue
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            process.kill()
            return process.pid
        raise AssertionError("the operator does not run")
