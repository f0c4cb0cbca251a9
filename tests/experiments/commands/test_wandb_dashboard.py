import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from experiments.__main__ import main
from experiments.tables.table_files import load_table
from experiments.wandb_report import report_specification

TABLE = "do_conv_mnist_pytorch"


@pytest.fixture(autouse=True)
def in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(repository)
    yield
    wandb.teardown()


class Server(BaseHTTPRequestHandler):
    """As much of a W&B server as saving a report asks for; entity `others` is not one's own."""

    protocol_version = "HTTP/1.1"
    saved: list[dict[str, Any]]

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data: dict[str, Any] = {}
        if self.path == "/graphql":
            request = json.loads(content)
            data = self.answer(request["query"], request.get("variables") or {})
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            self.saved.append(given)
            project = {"id": "P", "name": given["projectName"], "entityName": given["entityName"]}
            view = {"id": "V", "displayName": given["displayName"], "description": "", "name": "n"}
            spec = {"spec": given["spec"], "project": project, "type": "runs"}
            times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
            return {"upsertView": {"view": {**view, **spec, **times}, "inserted": True}}
        if "ProjectInternalId" in query:
            own = given["entityName"] != "others"
            return {"project": {"internalId": "P"} if own else None}
        if "GetProjects" in query:
            node = {"__typename": "Project", "id": "P", "name": "convsuite", "entityName": "me"}
            node |= {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
            page = {"__typename": "PageInfo", "endCursor": "", "hasNextPage": False}
            return {"models": {"pageInfo": page, "edges": [{"node": node}]}}
        teams = {"edges": []}
        viewer = {"id": "U", "entity": "me", "username": "me", "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": teams, "apiKeys": teams, "name": "", "admin": False}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    """A server that one is logged in to; its class keeps what was saved."""
    Server.saved = []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{http.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    yield Server
    http.shutdown()
    http.server_close()


def test_a_dry_run_writes_the_specification_and_sends_nothing(
    tmp_path: Path, server: type[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.yaml"
    assert (
        main(["dashboard", "wandb", TABLE, "--dry-run", "--entity", "me", "--out", str(out)]) == 0
    )
    assert f"wrote {out}; nothing was sent" in capsys.readouterr().out
    written = yaml.safe_load(out.read_text())
    expected = report_specification(load_table(TABLE), "me", "convsuite")
    assert written == json.loads(json.dumps(expected))
    assert not server.saved


def test_a_report_is_saved_in_ones_own_entity(
    server: type[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces", reason="optional package")
    assert main(["dashboard", "wandb", TABLE]) == 0
    assert "/me/convsuite/reports/" in capsys.readouterr().out
    (saved,) = server.saved
    assert (saved["entityName"], saved["projectName"]) == ("me", "convsuite")
    kinds = [block["type"] for block in json.loads(saved["spec"])["blocks"]]
    assert kinds.count("panel-grid") == 2


def test_a_project_that_is_not_ones_own_is_said_in_one_line(
    server: type[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces", reason="optional package")
    assert main(["dashboard", "wandb", TABLE, "--entity", "others"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did not take the report into others/convsuite" in line
    assert "that you may write there" in line


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_one_who_is_not_logged_in_is_told_how(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("experiments.commands.wandb_dashboard._require_package", lambda: None)
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    assert main(["dashboard", "wandb", TABLE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not logged in to W&B; run `wandb login`" in line


def test_an_unreachable_server_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(prompt: bool) -> bool:
        raise wandb.errors.AuthenticationError("no route\nto host")

    monkeypatch.setattr("experiments.commands.wandb_dashboard._require_package", lambda: None)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", unreachable)
    assert main(["dashboard", "wandb", TABLE]) == 2
    assert capsys.readouterr().err == "error: W&B cannot be reached (no route)\n"


def test_a_missing_package_is_said_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["dashboard", "wandb", TABLE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "wandb-workspaces is not installed; pip install -e '.[dashboards]'" in line


def test_an_unknown_table_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "wandb", "do_conv_mnist_pytorc", "--dry-run"]) == 2
    assert "did you mean 'do_conv_mnist_pytorch'?" in capsys.readouterr().err
