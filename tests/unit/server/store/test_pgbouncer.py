"""The store behind a real PgBouncer that gives each transaction whichever connection is free."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url

from forkpoint_server.store.aggregates import unit_sums
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import put_policy, read_definitions
from forkpoint_server.store.outcomes import Outcome, add_outcomes
from tests.processes.postgresql import postgresql
from tests.processes.unpacked import service
from tests.unit.server.experiments.factories import store
from tests.unit.server.store.rows import row

CONFIGURATION = """\
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
"""


@pytest.fixture
def pooled_url() -> Iterator[str]:
    """An empty database, through two connections that all transactions share."""
    program, variables = service("pgbouncer")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        listen = free.getsockname()[1]
    # It refuses to run as root, so another user must reach its files and PostgreSQL's socket. Pytest's folder is closed
    # to others whenever another run of pytest starts.
    with TemporaryDirectory(prefix="forkpoint-pgbouncer-") as name, postgresql(Path(name) / "data") as server:
        folder, url = Path(name), make_url(server.new_database())
        users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{url.username}" ""\n')
        host, port = url.query.get("host", url.host), url.port or 5432
        configuration.write_text(
            CONFIGURATION.format(host=host, port=port, user=url.username, listen=listen, users=users)
        )
        folder.chmod(0o755)
        Path(str(host)).chmod(0o711)
        process = subprocess.Popen(
            [program, "-q", *(["-u", "nobody"] if os.getuid() == 0 else []), str(configuration)],
            env={**os.environ, **variables},
        )
        try:
            for _ in range(300):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", listen)) == 0:
                        break
                time.sleep(0.1)
            yield f"postgresql://{url.username}@127.0.0.1:{listen}/{url.database}"
        finally:
            process.terminate()
            process.wait()
            Path(str(host)).chmod(0o700)  # as PostgreSQL wants its data


def test_every_call_of_the_store_in_many_threads(pooled_url: str) -> None:
    database = open_database(pooled_url)
    stored = store(database)

    def work(worker: int) -> None:
        for number in range(30):
            name = f"{worker}-{number}"
            assert add_assignments(database, [row(stored.id, name, created=0.0)]) == 0
            assert add_outcomes(database, stored.id, [Outcome(name, "x", 1.0)], 32).new
            put_policy(database, f"policy-{worker}", {"rules": []})
            assert read_definitions(database).experiments == (stored,)
            assert unit_sums(database, stored.id, time.time())

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(work, worker) for worker in range(8)]:
            job.result()
    assert unit_sums(database, stored.id, time.time())["control"]["x"].requests.sum() == 240
    database.dispose()
