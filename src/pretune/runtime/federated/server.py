"""The server's end as a backend of `run`: streams in, crews whose members are elsewhere out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from pretune.fieldbook import NAME as BOOK
from pretune.fieldbook import FieldBook
from pretune.ledger import Stage
from pretune.physics.cost import finetune_round
from pretune.runtime.federated.crew import Patience, RemoteCrew, Rounds, Weigh, renormalised
from pretune.runtime.federated.events import NAME as EVENTS
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.gather import Carrier
from pretune.runtime.federated.hub import Hub, Pass
from pretune.runtime.federated.messages import weights_of
from pretune.runtime.federated.steered import SteeredDevices
from pretune.runtime.federated.tokens import Tokens
from pretune.runtime.job import Job
from pretune.runtime.private import PrivateMean
from pretune.uncertainty import counted


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A hub that listens, for whoever brings it its devices."""

    hub: Hub
    port: int
    tokens: Tokens
    job: Job


@dataclass(frozen=True, kw_only=True, eq=False)
class Streams:
    """Rounds over one TLS stream a device.

    `credentials` are the PEM bytes of the server's key and certificate, None for plaintext on loopback. `invites`: a
    device may ask for its token itself. `opened` is called when the hub listens; what it returns is called at the end.
    """

    keys: Mapping[str, ec.EllipticCurvePublicKey]
    credentials: tuple[bytes, bytes] | None
    address: str = "127.0.0.1:0"
    invites: bool = True
    patience: Patience = field(default_factory=Patience)
    keepalive_s: float = 10.0
    weigh: Weigh = renormalised
    opened: Callable[[Opened], Callable[[], None]] | None = None
    simulates: bool = False

    @contextmanager
    def crews(self, job: Job, folder: Path) -> Iterator[Job]:
        """See `Backend`."""
        with ExitStack() as stack:
            events = Events(folder / EVENTS)
            stack.callback(events.close)
            run = f"{job.scenario.sha256[:12]}-{secrets.token_hex(8)}"
            tokens = Tokens(run)
            size = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(job.model).values())
            entry = Pass(
                names=job.scenario.devices.names,
                keys=self.keys,
                tokens=tokens,
                scenario_sha256=job.scenario.sha256,
                invites=self.invites,
            )
            hub = Hub(entry, events, most_bytes=size, keepalive_s=self.keepalive_s)
            port = hub.start(self.address, self.credentials)
            if self.opened is not None:
                stack.callback(self.opened(Opened(hub=hub, port=port, tokens=tokens, job=job)))
            farewell = "the server stopped"
            try:
                yield stack.enter_context(
                    remote_job(job, folder, hub, events, patience=self.patience, weigh=self.weigh)
                )
                farewell = "the run has ended"
            finally:
                hub.stop(said=farewell)


@contextmanager
def remote_job(
    job: Job, folder: Path, carrier: Carrier, events: Events, *, patience: Patience, weigh: Weigh = renormalised
) -> Iterator[Job]:
    """The job with crews, and hands for a steered run, that are reached through `carrier`."""
    book = FieldBook(folder / BOOK)
    priced = counted(job.scenario, job.plan.under)
    rounds = Rounds(scenario=priced, carrier=carrier, events=events, book=book, patience=patience, weigh=weigh)
    stages = []
    pieces = iter(job.plan.finetune.parts if job.plan.finetune is not None else ())
    for stage in job.stages:
        if stage.stage is not Stage.FINETUNE:
            stages.append(stage)
            continue
        piece = next(pieces)
        if isinstance(stage.combine, PrivateMean):
            stage.combine.seed = secrets.randbits(63)  # devices know the run's seed, and must not know the noise
        settled = priced.settled(piece.local_steps)
        cost = finetune_round(settled, piece.batch.astype(float), piece.clock_hz, piece.power_w, piece.bandwidth_hz)
        crew = RemoteCrew(**vars(stage.crew), rounds=rounds, piece=piece, cost=cost)
        stages.append(replace(stage, crew=crew))
    try:
        yield replace(job, stages=tuple(stages), hands=SteeredDevices(rounds=rounds))
    finally:
        book.close()
