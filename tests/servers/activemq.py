"""A real ActiveMQ Classic, from Debian's package, without its system user, its service and its default ports."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.needed import HINT, missing
from tests.servers.ports import free_port
from tests.servers.process import Process, accepts

HOME, JAVA = Path("/usr/share/activemq"), Path("/usr/share/java")
JARS = ("xstream.jar", "jettison.jar", "xpp3.jar")
"""By which the broker writes an advisory as JSON; the package does without."""
COLLECTORS = ("one", "two")
"""Names of the collectors that have a queue of advisories."""
USER, PASSWORD = "tracker", "ri:g\\nt"
"""With what STOMP escapes."""
SAID = ("MessageDelivered", "MessageConsumed", "MessageDLQd", "Expired", "MessageDiscarded")
KEYS = "changeit"
"""Of the file with the broker's key."""
COPIED = """<compositeTopic name="ActiveMQ.Advisory.{said}.{kind}.&gt;" forwardOnly="false"><forwardTo>
  {queues}</forwardTo></compositeTopic>"""
CONFIG = """<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
    http://www.springframework.org/schema/beans/spring-beans.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
<broker xmlns="http://activemq.apache.org/schema/core" brokerName="test" useJmx="{jmx}" persistent="{persistent}"
    dataDirectory="{folder}/data" schedulePeriodForDestinationPurge="100">
  <destinationPolicy><policyMap><policyEntries>
    <policyEntry queue="&gt;" advisoryForConsumed="true" advisoryForDelivery="true" includeBodyForAdvisory="true"
        expireMessagesPeriod="200">
      <deadLetterStrategy><individualDeadLetterStrategy queuePrefix="DLQ." processNonPersistent="true"/>
      </deadLetterStrategy></policyEntry>
    <policyEntry queue="passing.&gt;" advisoryForConsumed="true" advisoryForDelivery="true"
        includeBodyForAdvisory="true" gcInactiveDestinations="true" inactiveTimeoutBeforeGC="100"/>
    <policyEntry queue="undead.&gt;" advisoryForConsumed="true" advisoryForDelivery="true" expireMessagesPeriod="200">
      <deadLetterStrategy><sharedDeadLetterStrategy processExpired="false"/></deadLetterStrategy></policyEntry>
    <policyEntry queue="tracker.advisories.&gt;" memoryLimit="32mb"/>
    <policyEntry queue="tracker.canary.two" advisoryForConsumed="true" advisoryForDelivery="true"
        producerFlowControl="false"/>
    <policyEntry topic="&gt;" advisoryForConsumed="true" advisoryForDelivery="true"
        advisoryForDiscardingMessages="true"><pendingMessageLimitStrategy>
        <constantPendingMessageLimitStrategy limit="2"/></pendingMessageLimitStrategy></policyEntry>
    <policyEntry topic="ActiveMQ.&gt;"/>
  </policyEntries></policyMap></destinationPolicy>
  <destinationInterceptors><virtualDestinationInterceptor><virtualDestinations>
    <virtualTopic name="VirtualTopic.&gt;" prefix="Consumer.*."/>
    {copied}
  </virtualDestinations></virtualDestinationInterceptor></destinationInterceptors>
  <managementContext><managementContext createConnector="{jmx}" connectorPort="{jmx_port}" connectorHost="127.0.0.1"
    /></managementContext>
  {network}
  {store}
  <plugins><simpleAuthenticationPlugin anonymousAccessAllowed="true"><users>
    <authenticationUser username="{user}" password="{password}" groups="users"/></users></simpleAuthenticationPlugin>
  </plugins>
  {tls}
  <systemUsage><systemUsage><memoryUsage><memoryUsage limit="{memory}"/></memoryUsage></systemUsage></systemUsage>
  <transportConnectors>
    <transportConnector name="first" uri="stomp://127.0.0.1:{first}?wireFormat.maxFrameSize=104857600"/>
    <transportConnector name="clients" uri="stomp://127.0.0.1:{port}?wireFormat.maxFrameSize=104857600"/>
    <transportConnector name="java" uri="tcp://127.0.0.1:{java}"/>
    {safe}
  </transportConnectors>
</broker></beans>
"""
LOG = """log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c %m%n
"""


class ActiveMQ:
    """One broker. `start`, `stop`, `kill`, `start` again: its data and ports stay the same. `persistent`: it keeps
    messages on disk; `jmx`: it can be managed; `memory`: so much it holds; `sends_to`: to this broker (its `java`) go
    messages that somebody wants there; `tls`: at `safe`, with a certificate in the file `authority`. Applications come
    by `url`, the collector by `first`."""

    def __init__(
        self, folder: Path, persistent: bool = False, jmx: bool = False, memory: str = "256 mb", sends_to: str = "",
        tls: bool = False,
    ) -> None:  # fmt: skip
        self.port, self._first, self._jmx = free_port(), free_port(), free_port()
        self.url, self.first = f"stomp://127.0.0.1:{self.port}", f"stomp://127.0.0.1:{self._first}"
        java, safe = free_port(), free_port()
        self._last = safe if tls else java  # connectors are opened in their order
        self.java, self.safe, self.authority = f"tcp://127.0.0.1:{java}", f"stomp+ssl://127.0.0.1:{safe}", ""
        conf, lib = folder / "conf", folder / "lib"
        for made in (conf, lib):
            made.mkdir(parents=True)
        for jar in JARS:
            (lib / jar).symlink_to(JAVA / jar)
        queues = "".join(f'<queue physicalName="tracker.advisories.{name}"/>' for name in COLLECTORS)
        copied = [COPIED.format(said=said, kind=kind, queues=queues) for said in SAID for kind in ("Queue", "Topic")]
        store = f'<persistenceAdapter><kahaDB directory="{folder}/kahadb"/></persistenceAdapter>' if persistent else ""
        context = connector = ""
        if tls:
            self.authority = _certificate(conf)
            keys = f'keyStore="{conf}/keys" keyStorePassword="{KEYS}"'
            context = f"<sslContext><sslContext {keys}/></sslContext>"
            connector = f'<transportConnector name="safe" uri="stomp+ssl://127.0.0.1:{safe}"/>'
        network = f'<networkConnector uri="static:({sends_to})"/>' if sends_to else ""
        (conf / "activemq.xml").write_text(
            CONFIG.format(
                folder=folder, jmx=str(jmx).lower(), persistent=str(persistent).lower(), copied="\n    ".join(copied),
                jmx_port=self._jmx, store=store, user=USER, password=PASSWORD, first=self._first, port=self.port,
                java=java, memory=memory, tls=context, safe=connector,
                network=f"<networkConnectors>{network}</networkConnectors>" if network else "",
            ),
            "utf-8",
        )  # fmt: skip
        (conf / "log4j.properties").write_text(LOG, "utf-8")
        places = {"home": HOME, "base": folder, "conf": conf, "data": folder / "data"}
        self._java = [
            "java", "-Xms64m", "-Xmx512m", *(f"-Dactivemq.{name}={at}" for name, at in places.items()),
            f"-Dlog4j.configuration=file:{conf}/log4j.properties", "-jar", str(HOME / "bin/activemq.jar"),
        ]  # fmt: skip
        self.process = Process("activemq", [*self._java, "start", f"xbean:file:{conf}/activemq.xml"], folder)

    def start(self) -> ActiveMQ:
        """Returns when it takes connections."""
        self.process.start(lambda: accepts(self._last), 60.0)
        return self

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.kill()

    def stop(self) -> None:
        """End it, as an operator does."""
        self.process.stop()

    def purge(self, queue: str) -> list[str]:
        """The command of the package's own tool that empties a queue; needs `jmx`."""
        return [*self._java, "purge", "--jmxurl", f"service:jmx:rmi:///jndi/rmi://127.0.0.1:{self._jmx}/jmxrmi", queue]


def _certificate(folder: Path) -> str:
    """A key for 127.0.0.1 in the file `keys`; the path of its certificate, which it signed itself."""
    tool, made = ["keytool", "-keystore", str(folder / "keys"), "-storepass", KEYS, "-alias", "broker"], folder / "pem"
    name = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-keyalg", "EC", "-storetype", "PKCS12"]
    subprocess.run([*tool, "-genkeypair", *name], check=True, capture_output=True)
    subprocess.run([*tool, "-exportcert", "-rfc", "-file", str(made)], check=True, capture_output=True)
    return str(made)


def there() -> bool:
    """Whether it is installed, with the jars that the package does without."""
    return shutil.which("java") is not None and (HOME / "bin/activemq.jar").exists() and all(
        (JAVA / jar).exists() for jar in JARS
    )  # fmt: skip


@pytest.fixture(scope="session")
def activemq_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ActiveMQ]]:
    """Starts brokers of one's own: `activemq_factory(persistent=True)` gives a running one that may be killed."""
    if not there():
        missing("activemq", f"Debian's activemq, libxstream-java and libjettison-java are not installed; {HINT}")
    made: list[ActiveMQ] = []

    def make(**options: Any) -> ActiveMQ:
        made.append(ActiveMQ(tmp_path_factory.mktemp("activemq"), **options))
        return made[-1].start()

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture(scope="session")
def activemq_server(request: pytest.FixtureRequest) -> ActiveMQ:
    """A running ActiveMQ shared by the session: use queues of your own, and do not stop it (`activemq_factory` gives
    one to kill)."""
    found: ActiveMQ = request.getfixturevalue("activemq_factory")()
    return found
