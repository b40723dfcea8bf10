"""Which benchmarks there are, in the order of the table."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.cases.discovery import discovery
from bench.cases.evaluation import evaluation
from bench.cases.first_output import first_output, first_output_on_a_copy
from bench.cases.lines import log_lines, sustained_lines
from bench.cases.model_proxy import model_proxy
from bench.cases.run_list import run_list
from bench.cases.runs import runs_per_second
from bench.cases.stages import stages
from bench.cases.starts import cli_start, postgres_start, up_start
from bench.cases.step_gap import step_gap
from bench.cases.streams import event_latency, subscribers
from bench.figures import Figure
from bench.world import World

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark; one that ``grows`` is measured at every size of the store's history."""

    summary: str
    run: Callable[[World, int | None], Awaitable[Sequence[Figure]]]
    grows: bool = False


CASES = {
    "first-output": Case("run created → first output at an SSE client", first_output, grows=True),
    "first-output-on-a-copy": Case("the same on a copy of a tree", first_output_on_a_copy),
    "step-gap": Case("from one step's last act to the next one's first", step_gap),
    "stages": Case("from a step's end to the next stage's first step", stages),
    "event-latency": Case("runner's write → SSE client", event_latency, grows=True),
    "runs-per-second": Case("finished one-step runs", runs_per_second, grows=True),
    "log-lines": Case("log lines through one gateway, short-term", log_lines, grows=True),
    "log-lines-sustained": Case("5,000 log lines a second for five minutes", sustained_lines),
    "subscribers": Case("SSE subscribers of one process", subscribers),
    "model-proxy": Case("tokens of a model through the proxy", model_proxy),
    "run-list": Case("the run list with every filter", run_list, grows=True),
    "evaluation": Case("one evaluation of workflow code", evaluation),
    "discovery": Case("discovery of a project's workflows", discovery),
    "postgres-start": Case("start of the embedded Postgres", postgres_start),
    "up-start": Case("start of `plue up`", up_start),
    "cli-start": Case("`plue --help`, `plue run list`", cli_start),
}
