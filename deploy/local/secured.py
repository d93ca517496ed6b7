"""Secured links of a stack: its authority, certificates, logins, and the configuration of broker and database for them.

Brokers authenticate each other by certificate. Clients log in with a password (listener CLIENTS: SASL over TLS) or with
a certificate (listener CERTIFICATES), as chosen when the stack was created. The operator always uses a certificate,
since it sets the passwords.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final, Literal

from deploy.local.authority import Authority, Issued
from deploy.local.kafka import Node

How = Literal["password", "certificate"]
HOW: Final[tuple[How, ...]] = ("password", "certificate")
BROKER: Final = "broker"
OPERATOR: Final = "operator"
MECHANISM: Final = "SCRAM-SHA-512"
"""Mechanism of password logins, as clients request it (`shared/kafka_links.py`)."""
HOSTS: Final = ("127.0.0.1",)

PROPERTIES: Final = """\
# ---- secured links: these override what is set above
listeners=CLIENTS://127.0.0.1:{port},CERTIFICATES://127.0.0.1:{certificates_port},PEERS://127.0.0.1:{peer_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{advertised_port},CERTIFICATES://127.0.0.1:{certificates_port},PEERS://127.0.0.1:{peer_port}
listener.security.protocol.map=CLIENTS:SASL_SSL,CERTIFICATES:SSL,PEERS:SSL,CONTROLLER:SSL
sasl.enabled.mechanisms={mechanism}
listener.name.clients.{listener_mechanism}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.certificates.ssl.client.auth=required
listener.name.peers.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
ssl.enabled.protocols=TLSv1.3,TLSv1.2
# a certificate's common name is the login
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{broker};User:{operator}
"""

HBA: Final = """\
hostssl all all 127.0.0.1/32 scram-sha-256
# backups (deploy/local/backup.py)
hostssl replication all 127.0.0.1/32 scram-sha-256
"""

CONFIGURATION: Final = """\
ssl = on
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
ssl_min_protocol_version = 'TLSv1.2'
"""


class Secured:
    """The secured links of the stack whose state is in `folder`.

    Attributes:
        how: how Goodfaith's processes log in to the broker.
        authority: the issuer of all certificates.
    """

    def __init__(self, folder: Path, how: How) -> None:
        self.how = how
        self.folder = folder / "secrets"
        self.authority = Authority(self.folder)

    def begin(self) -> None:
        """Issue the certificates that several parts of a new stack would otherwise issue concurrently."""
        self.issued(BROKER, HOSTS)
        self.database()
        self.http()

    def issued(self, name: str, hosts: tuple[str, ...] = ()) -> Issued:
        """The certificate of this name; issued if there is none."""
        place = self.folder / name
        found = Issued(*(place.with_name(f"{name}{ending}") for ending in (".pem", ".key", ".both.pem")))
        return found if found.both.exists() else self.authority.issue(name, hosts)

    def properties(self, node: Node) -> str:
        """The properties to add to a broker's."""
        return properties(node, self.issued(BROKER, HOSTS).both, self.authority.certificate)

    def database(self) -> Issued:
        """The certificate of the database server."""
        return self.issued("database", HOSTS)

    def http(self) -> Issued:
        """The certificate of the internal APIs."""
        return self.issued("http", HOSTS)

    def query(self) -> str:
        """The query for a URL of the database: TLS, with the server's certificate and name verified."""
        return f"sslmode=verify-full&sslrootcert={self.authority.certificate}"

    def by_certificate(self, principal: str) -> bool:
        """Whether this principal logs in with a certificate."""
        return principal == OPERATOR or self.how == "certificate"

    def login(self, principal: str, password: str) -> dict[str, str]:
        """Settings with which a process logs in to the broker; secrets are in files.

        Args:
            password: the principal's password, if it uses one.
        """
        login = user(principal)
        found = {"GOODFAITH_KAFKA_CA": str(self.authority.certificate)}
        if self.by_certificate(principal):
            own = self.issued(login)
            return found | {
                "GOODFAITH_KAFKA_SECURITY": "tls",
                "GOODFAITH_KAFKA_CERTIFICATE": str(own.certificate),
                "GOODFAITH_KAFKA_KEY": str(own.key),
            }
        files = {"USER": self.folder / f"{principal}.user", "PASSWORD": self.folder / f"{principal}.password"}
        for file, value in zip(files.values(), (login, password), strict=True):
            if not file.exists():  # a rotation may have changed it
                write(file, value)
        return found | {
            "GOODFAITH_KAFKA_SECURITY": "sasl_tls",
            **{f"GOODFAITH_KAFKA_{name}_FILE": str(file) for name, file in files.items()},
        }

    def database_login(self, role: str, url: str) -> Path:
        """The file with the URL of a role's database login; a URL that a rotation has put there stays."""
        file = self.folder / f"{role}.database"
        # unless the server's address has changed
        if not file.exists() or file.read_text().rpartition("@")[2] != url.rpartition("@")[2]:
            write(file, url)
        return file


def properties(node: Node, keystore: Path, truststore: Path) -> str:
    """The properties that secure a broker's links.

    Args:
        keystore: The broker's key and certificate.
        truststore: Certificates of the authorities that the broker trusts.
    """
    return PROPERTIES.format(
        port=node.port,
        advertised_port=node.advertised_port or node.port,
        certificates_port=node.certificates_port,
        peer_port=node.peer_port,
        controller_port=node.controllers[node.number],
        mechanism=MECHANISM,
        listener_mechanism=MECHANISM.lower(),
        keystore=keystore,
        truststore=truststore,
        broker=BROKER,
        operator=user(OPERATOR),
    )


def user(principal: str) -> str:
    """Name of a principal's login at the broker."""
    # slow imports, and commands that only look at a stack must be quick
    from shared import access
    from shared.settings import Settings

    return access.login(Settings.model_construct(), principal)


def new_password() -> str:
    """A new password for a login at the broker."""
    return secrets.token_urlsafe(24)


def write(file: Path, value: str) -> None:
    """Write a secret to a file that only its owner can read, atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600)
    fresh.write_text(value)
    fresh.rename(file)
