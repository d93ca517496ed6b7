"""An S3 server over a folder (S3Proxy), as a JVM child process on loopback, for tests of evidence files.

The test that starts it must stop it.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from deploy.local.children import StackError, free_port, tail
from deploy.local.jars import Jars

VERSION = "3.0.0"
JARS = Jars("S3Proxy", f"s3proxy-{VERSION}", Path(__file__).resolve().parent / "s3")
START_S = 60.0
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")

PROPERTIES = """\
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={identity}
s3proxy.credential={credential}
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir={data}
"""
LOGBACK = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %level %msg%n</pattern></encoder></appender>
  <root level="warn"><appender-ref ref="out"/></root>
</configuration>
"""


class S3Server:
    """One server with one bucket; its objects are files in `data`.

    Attributes:
        bucket: Name of the bucket.
        data: Folder of the bucket's objects.
    """

    def __init__(self, folder: Path, bucket: str = "evidence") -> None:
        self.bucket = bucket
        self.data = folder / "data" / bucket
        self.data.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._log = folder / "s3.log"
        self._credential = secrets.token_hex(16)
        (folder / "logback.xml").write_text(LOGBACK)
        self._properties = folder / "s3proxy.properties"
        self._properties.write_text(
            PROPERTIES.format(port=self._port, identity="test", credential=self._credential, data=folder / "data")
        )
        self._command = [
            "java",
            *JVM,
            f"-Dlogback.configurationFile={folder / 'logback.xml'}",
            "-cp",
            f"{JARS.fetched()}/*",
            "org.gaul.s3proxy.Main",
            "--properties",
            str(self._properties),
        ]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, with the same port and data as before.

        Raises:
            StackError: it did not start.
        """
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._child.poll() is not None:
                raise StackError(f"S3Proxy ended while starting{tail(self._log)}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=2).close()
            except urllib.error.HTTPError as answer:
                answer.close()
                return self
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise StackError(f"S3Proxy was not ready within {START_S:.0f} s{tail(self._log)}")

    def signal(self, number: signal.Signals) -> None:
        """Freeze it (SIGSTOP) or let it continue (SIGCONT)."""
        assert self._child is not None
        self._child.send_signal(number)

    def stop(self) -> None:
        """Stop it; the objects stay."""
        if self._child is not None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(10)
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()

    def environment(self) -> dict[str, str]:
        """The environment variables with which a process uses it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": self._credential,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
        }
