"""Every metric that this process shows, declared once.

One prefix, base units, labels from closed sets only: never a run's, a user's or a branch's name.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest

__all__ = ["Metrics"]

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_QUEUE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_RUNS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)


class Metrics:
    """The metrics of one server process; tests make as many as they like."""

    def __init__(self) -> None:
        """Declare all metrics in a registry of their own."""
        r = self.registry = CollectorRegistry()
        self.queue_seconds = Histogram(
            "plue_run_queue_seconds",
            "From queued to claimed.",
            ["pool"],
            buckets=_QUEUE,
            registry=r,
        )
        self.claim_seconds = Histogram(
            "plue_run_claim_seconds",
            "From claimed to accepted by the runner.",
            ["pool"],
            buckets=_FAST,
            registry=r,
        )
        self.run_seconds = Histogram(
            "plue_run_duration_seconds",
            "From start to end.",
            ["pool", "state"],
            buckets=_RUNS,
            registry=r,
        )
        self.runs_submitted = Counter(
            "plue_runs_submitted", "Runs recorded.", ["trigger"], registry=r
        )
        self.runs_ended = Counter(
            "plue_runs_ended", "Runs ended, by outcome and reason.", ["state", "reason"], registry=r
        )
        self.runs_queued = Gauge(
            "plue_runs_queued", "Runs in the queue of the whole database.", ["pool"], registry=r
        )
        self.attempts_lost = Counter(
            "plue_attempts_lost", "Attempts whose runner was lost.", ["reason"], registry=r
        )
        self.claims_unaccepted = Counter(
            "plue_claims_unaccepted", "Claims that no runner accepted in time.", registry=r
        )
        self.runners = Gauge(
            "plue_runners", "Runners of the whole database.", ["pool", "state"], registry=r
        )
        self.sessions = Gauge("plue_gateway_sessions", "Runners connected here.", registry=r)
        self.events_stored = Counter(
            "plue_events_stored", "Events stored by this process.", ["type"], registry=r
        )
        self.append_seconds = Histogram(
            "plue_event_append_seconds",
            "One transaction of event batches.",
            buckets=_FAST,
            registry=r,
        )
        self.append_events = Histogram(
            "plue_event_append_events",
            "Events in one transaction.",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500),
            registry=r,
        )
        self.fenced = Counter(
            "plue_frames_fenced", "Frames of runners that had lost their attempt.", registry=r
        )
        self.pass_seconds = Histogram(
            "plue_pass_duration_seconds", "One engine pass.", ["pass"], buckets=_FAST, registry=r
        )
        self.pass_failures = Counter(
            "plue_pass_failures", "Engine passes that failed.", ["pass"], registry=r
        )
        self.followers = Gauge("plue_event_followers", "Event streams open here.", registry=r)
        self.evaluation_seconds = Histogram(
            "plue_evaluation_seconds", "One evaluation of a workflow.", buckets=_FAST, registry=r
        )
        self.model_calls = Counter(
            "plue_model_calls", "Model calls, by how they ended.", ["client", "outcome"], registry=r
        )
        self.model_tokens = Counter(
            "plue_model_tokens", "Tokens of model calls.", ["client", "kind"], registry=r
        )
        self.model_usd = Counter(
            "plue_model_cost_usd", "What model calls cost.", ["client"], registry=r
        )
        self.kube_requests = Counter(
            "plue_kubernetes_requests",
            "Requests to the Kubernetes API, watches left out.",
            ["verb", "resource"],
            registry=r,
        )

    def render(self) -> tuple[bytes, str]:
        """Return the exposition text and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_1_0_0
