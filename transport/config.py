"""Configuration of the line to the platform (`[platform]`)."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The government platform and its broker. Relative file names are sought in $CREDENTIALS_DIRECTORY."""

    host: Annotated[str, Meta(min_length=1, description="Name or address of the broker.")]
    terminal_id: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9-]{4,32}$", description="This terminal's name at the platform, as enrolled."),
    ]
    ca_file: Annotated[str, Meta(min_length=1, description="Certificate authority of the broker (PEM).")]
    certificate_file: Annotated[str, Meta(min_length=1, description="Client certificate of this terminal (PEM).")]
    private_key_file: Annotated[str, Meta(min_length=1, description="Private key of the client certificate (PEM).")]
    identity_key_file: Annotated[
        str,
        Meta(min_length=1, description="SM2 identity key of this terminal (PKCS #8, DER), signs key requests."),
    ]
    signing_key_file: Annotated[
        str,
        Meta(
            min_length=1,
            description="SM2 public key of the platform (SubjectPublicKeyInfo, DER), signs key grants.",
        ),
    ]
    seal_key_file: Annotated[
        str,
        Meta(min_length=1, description="SM2 public key of the certificate issuer (SubjectPublicKeyInfo, DER)."),
    ]
    hardware: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None,
        Meta(description="The machine that was enrolled, as `govterm enroll accept` names it; no other may serve."),
    ] = None
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port of the broker.")] = 8883
    connect_seconds: Annotated[
        float, Meta(gt=0, le=60, description="Deadline for connecting and for the key grant.")
    ] = 5.0
    answer_seconds: Annotated[float, Meta(gt=0, le=60, description="Deadline for the platform's answer to a call.")] = (
        5.0
    )
    username: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="MQTT user name, only for a broker that wants one beside the certificate."),
    ] = None
    password_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="File with the MQTT password of `username`."),
    ] = None
