"""A StatsD server: a socket that takes what Airflow's client sends, with the tags that InfluxDB's form adds."""

from __future__ import annotations

import socket
from collections import Counter
from typing import NamedTuple

SECONDS = 0.2  # that a read waits for a datagram


class Sample(NamedTuple):
    """A value of a metric.

    :param name: without the prefix, and without tags
    :param tags: as ``name=value``
    :param kind: ``c`` for a counter, ``g`` for a gauge, ``ms`` for a timer
    """

    name: str
    tags: frozenset[str]
    value: float
    kind: str

    @classmethod
    def of(cls, line: str) -> Sample:
        head, _, rest = line.removeprefix("airflow.").partition(":")
        name, *tags = head.split(",")
        value, kind = rest.split("|")[:2]
        return cls(name, frozenset(tags), float(value), kind)


class StatsD:
    """Listens on the loopback interface; its datagrams wait in the socket until they are read."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(SECONDS)
        self.samples: list[Sample] = []

    def __enter__(self) -> StatsD:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def settings(self) -> dict[str, str]:
        """The variables by which an Airflow sends its metrics here."""
        host, port = self._socket.getsockname()
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": str(host),
            "AIRFLOW__METRICS__STATSD_PORT": str(port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def read(self) -> None:
        """Read what has come, up to a moment without anything."""
        while True:
            try:
                datagram = self._socket.recv(2**16)
            except TimeoutError:
                return
            # A client is another process, and may be of another Airflow: of its lines only ours are known.
            self.samples += [Sample.of(line) for line in datagram.decode().splitlines() if ".nbjob." in line]

    def counts(self) -> Counter[str]:
        """Return the sums of the counters that have come, by ``name`` or ``name,tag=value``, tags sorted."""
        self.read()
        found = Counter[str]()
        for sample in self.samples:
            if sample.kind == "c":
                found[",".join([sample.name, *sorted(sample.tags)])] += int(sample.value)
        return found

    def values(self, name: str, *tags: str) -> list[float]:
        """Return what a gauge or timer was set to, in order."""
        self.read()
        return [sample.value for sample in self.samples if sample.name == name and sample.tags >= set(tags)]
