"""What a step cannot do, tried as a step on the real node; each fails with its own reason.

What a network policy forbids is dropped, so that it ends by a timeout; where nothing listened and
nothing forbade, it would be refused. The stand-ins for a metadata server and for the internet are
addresses of the node that these tests make and serve themselves.
"""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cluster.bed.node import GATEWAY
from cluster.installed import NAMESPACE, RELEASE, STEP, Installed, node_has
from cluster.operating import RUNNERS, until

CONNECT = (
    'python3 -c "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 3);'
    " s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print('REACHED', s.recv(100))\" "
)
STAND_INS = {"metadata": "10.245.0.254", "internet": "10.246.0.7"}
"""Addresses that the tests give to the node, for those that nobody must send anything to."""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        # Where everybody may write, the mount forbids it; elsewhere the owner does so before.
        pytest.param(
            "touch /var/tmp/mine", "Read-only file system", id="write-the-root-file-system"
        ),
        pytest.param("touch /opt/plue/site/x", "denied", id="change-the-runner"),
        pytest.param("ls /var/lib/kubelet/pods", "No such file", id="read-another-pods-files"),
        pytest.param(
            "ls /proc/1/root/var/lib/kubelet", "No such file", id="through-the-first-process"
        ),
        pytest.param(
            "cat /var/run/secrets/kubernetes.io/serviceaccount/token",
            "No such file",
            id="find-a-token-of-the-api-server",
        ),
        pytest.param("python3 -c 'import os; os.setuid(0)'", "not permitted", id="become-root"),
        pytest.param(
            "mount -t tmpfs x /workspace", "denied|must be superuser|permission", id="mount"
        ),
        pytest.param("unshare -n true", "not permitted", id="make-namespaces"),
        pytest.param("mknod /tmp/disk b 8 0", "not permitted", id="make-a-device"),
        pytest.param("getent hosts kubernetes.default.svc", "", id="ask-dns"),
    ],
)
def test_a_step_cannot(plue: Installed, command: str, reason: str) -> None:
    """The attempt fails, by the reason that the system gives."""
    status, said = plue.tried(command)
    assert status["reason"] == "StepFailed", said
    words = reason.split("|")
    assert any(word.lower() in said.lower() for word in words), said


def _address(plue: Installed, where: str) -> tuple[str, int]:
    component, _, port = where.partition(":")
    if component in {"operator", "api", "gateway", "evaluator", "postgres"}:
        return plue.pods(component)[0]["status"]["podIP"], int(port)
    if component == "runner":
        # The youngest: the run itself will get the one that has waited longest.
        pods = [pod for pod in plue.runner_pods() if "podIP" in pod["status"]]
        pods.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return pods[-1]["status"]["podIP"], int(port)
    return {**STAND_INS, "node": GATEWAY, "service": "10.96.0.1"}[component], int(port)


@pytest.fixture(scope="module")
def stand_ins(plue: Installed) -> Iterator[None]:
    """Serve the stand-ins' addresses."""
    with ExitStack() as stack:
        for address in STAND_INS.values():
            stack.enter_context(node_has(address))
            server = http.server.ThreadingHTTPServer(
                (address, 80), http.server.BaseHTTPRequestHandler
            )
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        yield


@pytest.mark.parametrize(
    "where",
    [
        "service:443",
        "node:6443",
        "node:10250",
        "operator:8702",
        "api:8700",
        "evaluator:8703",
        "postgres:5432",
        "gateway:8702",
        "runner:8701",
        "metadata:80",
        "internet:80",
    ],
)
def test_a_step_cannot_reach(plue: Installed, stand_ins: None, where: str) -> None:
    """A connection to anything but the gateway's port for runners is never made."""
    address, port = _address(plue, where)
    status, said = plue.tried(f"{CONNECT}{address} {port}")
    assert status["reason"] == "StepFailed"
    assert "timed out" in said, said
    assert "REACHED" not in said


def test_the_stand_ins_answer_who_may_reach_them(plue: Installed, stand_ins: None) -> None:
    """Without a policy the same attempt succeeds: it is the policy that forbids it."""
    image = plue.cluster.running.server_image
    for name, address in STAND_INS.items():
        program = CONNECT + f"{address} 80"
        pod = ["run", f"free-{name}", "--restart=Never", f"--image={image}"]
        pod += ["--image-pull-policy=Never", "-n", "default", "--command", "--", "sh", "-c"]
        plue.cluster.kubectl(*pod, program)
        plue.cluster.wait("jsonpath={.status.phase}=Succeeded", "pod", f"free-{name}", 60)
        assert "REACHED" in plue.cluster.kubectl("logs", "-n", "default", f"free-{name}")
        plue.cluster.kubectl("delete", "pod", f"free-{name}", "-n", "default", "--wait=false")


def test_a_step_reaches_the_gateway(plue: Installed) -> None:
    """The one way that is open: the gateway answers, by its Service's address."""
    address = plue.service("gateway")
    status, said = plue.tried(f"{CONNECT}{address} 8701")
    assert "REACHED" in said
    assert status["phase"] == "Succeeded"


SPEAK_AS = """
import asyncio, json, sys
sys.path.insert(0, '/opt/plue/site')
import aiohttp

async def main(url, runner):
    token = open('/var/run/plue/token').read().strip()
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        hello = dict(type='hello', protocol=1, runner=runner, token=token)
        await socket.send_str(json.dumps(hello))
        answer = await socket.receive()
        print('ANSWER', answer.type.name, answer.data)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def test_a_step_cannot_speak_as_another_runner(plue: Installed) -> None:
    """What is in a pod proves that pod alone: the gateway knows no other runner by it."""
    other = plue.runner_pods()[0]["metadata"]["name"]
    url = f"http://{plue.service('gateway')}:8701/runner/v1/session"
    script = f"cat > speak.py <<'END'\n{SPEAK_AS}END\npython3 speak.py {url} {other}"
    _, said = plue.tried(script)
    assert "ANSWER CLOSE 4401" in said, said


AS_ANOTHER = """
ask() {{
  curl -s -o answer -w "ANSWER $2 %{{http_code}}\\n" -X "$1" -d '{{}}' "http://{gateway}:8701$2" \\
    -H "X-Plue-Runner: {runner}" -H "Authorization: Bearer $(cat /var/run/plue/token)"
}}
ask GET /runner/v1/blobs/{blob}
ask POST /runner/v1/caches/restore
ask POST "/runner/v1/caches?key=mine&version={blob}"
ask POST /runner/v1/llm/v1/messages
"""


def test_a_step_gets_nothing_of_another_run_from_the_gateway(plue: Installed) -> None:
    """No request of the gateway's answers for the runner of a run that goes on beside it."""
    (beside,) = plue.apply(STEP.format(command="sleep 300", options=""))

    def runner() -> str | None:
        status = plue.cluster.get("wfr", beside).get("status", {})
        found: str | None = status.get("runner") if status.get("phase") == "Running" else None
        return found

    other = until("the other run has a runner", runner, seconds=120)
    script = AS_ANOTHER.format(gateway=plue.service("gateway"), runner=other, blob="0" * 64)
    _, said = plue.tried(script)
    codes = [line.split()[-1] for line in said.splitlines() if "ANSWER" in line]
    assert codes == ["403", "403", "403", "401"], said
    plue.cluster.kubectl("delete", "wfr", beside)


def test_a_runners_token_opens_nothing_at_the_api_server(plue: Installed) -> None:
    """The token is for the gateway's audience: whoever carries it out is nobody elsewhere."""
    # Backwards: what looks like the token is masked in the log.
    _, said = plue.tried("python3 -c \"print(open('/var/run/plue/token').read()[::-1])\"")
    token = said.split()[-1][::-1]
    whoami = subprocess.run(
        [
            "curl",
            "-sk",
            "-H",
            f"Authorization: Bearer {token}",
            f"https://{GATEWAY}:6443/api/v1/pods",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert '"code": 401' in whoami.stdout


def test_a_step_cannot_outlive_its_deadline(plue: Installed) -> None:
    """What ignores TERM and left its process group ends with its runner."""
    command = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 500' & sleep 500"
    (name,) = plue.apply(STEP.format(command=command, options=', timeout="2s"'))
    assert plue.ended(name, 60)["phase"] in {"Failed", "TimedOut"}
    runner = next(e["runner"] for e in map(_body, plue.events(name)) if "runner" in e)
    until("its pod is gone", lambda: not plue.cluster.get("pod", runner, RUNNERS), seconds=60)


def _body(event: dict[str, Any]) -> dict[str, Any]:
    body = event.get("body", event)
    assert isinstance(body, dict)
    return body


def test_a_memory_bomb_ends_its_own_run_alone(plue: Installed) -> None:
    """The container ends as OOMKilled; a run beside it goes on."""
    (beside,) = plue.apply(STEP.format(command="sleep 15; echo fine", options=""))
    status, _ = plue.tried('python3 -c "x = [bytearray(2**24) for _ in range(200)]"')
    assert status["reason"] in {"OOMKilled", "StepFailed"}
    assert plue.ended(beside)["phase"] == "Succeeded"


def test_a_fork_bomb_ends_its_own_run_alone(plue: Installed) -> None:
    """As many processes as it likes: they are bounded by its own memory, and end with it."""
    (beside,) = plue.apply(STEP.format(command="sleep 20; echo fine", options=""))
    bomb = "f() { f | f & }; f; sleep 20; false"
    status, _ = plue.tried(bomb, ', timeout="20s"')
    assert status["phase"] != "Succeeded"
    assert plue.ended(beside, 90)["phase"] == "Succeeded"


# ── what the namespace of the runners admits ─────────────────────────────────────────────────────


def _pod(plue: Installed, **spec: object) -> dict[str, object]:
    """Return a runner's pod as the operator made it, under another name."""
    pod = plue.runner_pods()[0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "intruder",
            "namespace": RUNNERS,
            "labels": {**pod["metadata"]["labels"], "plue.dev/runner": "intruder"},
            "ownerReferences": pod["metadata"]["ownerReferences"],
        },
        "spec": {k: v for k, v in pod["spec"].items() if k != "nodeName"} | spec,
    }


OTHERS = [{"name": "tmp", "emptyDir": {}}, {"name": "token", "emptyDir": {}}]
OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-operator"


def _create(plue: Installed, pod: dict[str, object], user: str | None) -> str:
    as_user = ["--as", user] if user else []
    arguments = ["create", "--dry-run=server", "-f", "-", *as_user]
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={plue.cluster.running.inner_kubeconfig}", *arguments],
        input=json.dumps(pod),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("spec", "user", "said"),
    [
        pytest.param({}, OPERATOR, "created", id="the-operators-own"),
        pytest.param({}, None, "only Plue's operator", id="an-administrators"),
        pytest.param({"runtimeClassName": None}, OPERATOR, "RuntimeClass", id="without-sandbox"),
        pytest.param(
            {"volumes": [{"name": "workspace", "secret": {"secretName": "x"}}, *OTHERS]},
            OPERATOR,
            "volumes are empty",
            id="with-a-secret",
        ),
        pytest.param(
            {"automountServiceAccountToken": True}, OPERATOR, "no token", id="with-a-token"
        ),
        pytest.param({"dnsPolicy": "ClusterFirst"}, OPERATOR, "no DNS", id="with-dns"),
        pytest.param(
            {"hostNetwork": True}, OPERATOR, "hostNetwork|host", id="in-the-nodes-network"
        ),
    ],
)
def test_only_our_shape_of_pod_is_admitted(
    plue: Installed, spec: dict[str, object], user: str | None, said: str
) -> None:
    """Whoever asks, and whatever right they have: another pod is refused, and told why."""
    answer = _create(plue, _pod(plue, **spec), user)
    assert any(word in answer for word in said.split("|")), answer
    assert ("created" in answer) == (said == "created"), answer


def test_nobody_enters_a_runner(plue: Installed) -> None:
    """An administrator's exec is refused too, by the policy's name."""
    name = plue.runner_pods()[0]["metadata"]["name"]
    done = subprocess.run(
        [
            *("kubectl", f"--kubeconfig={plue.cluster.running.inner_kubeconfig}"),
            *("exec", "-n", RUNNERS, name, "--", "true"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "nothing gets into a runner's pod" in done.stderr
