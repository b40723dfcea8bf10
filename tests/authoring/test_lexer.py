"""The lexer: where values may stand in a script, in which form, and where they may not."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plue.authoring.sandbox.lexer import Hole, Placement, Refusal, place_holes

NASTY = [
    "plain",
    "$(touch hacked)",
    "`touch hacked`",
    "'; touch hacked; '",
    '"; touch hacked; "',
    "a\nb\n\nc",
    "* ? [a-z] ~",
    "\\",
    "\\n\\",
    "$HOME ${HOME} $((1+1))",
    "-n",
    "a  b\tc",
    "EOF",
    "!! #x",
    ") } ]] fi done esac",
    "é — 日本",
    "%s %d",
    "",
]


def pieces_of(script: str) -> list[str | Hole]:
    """Split a script at `@`: each stands for the value of PLUE_V1."""
    pieces: list[str | Hole] = []
    for index, text in enumerate(script.split("@")):
        if index:
            pieces.append(Hole(0, "PLUE_V1"))
        pieces.append(text)
    return pieces


def placed_for(script: str, program: str) -> Placement:
    """Place the holes of *script* for *program*."""
    return place_holes(pieces_of(script), shell=program)


V = '"${PLUE_V1}"'
W = "${PLUE_V1}"

ACCEPTED = [
    pytest.param("echo @", f"echo {V}", id="bare"),
    pytest.param("echo a@b", f"echo a{V}b", id="inside-a-word"),
    pytest.param("echo --x=@", f"echo --x={V}", id="after-an-equals-sign"),
    pytest.param('echo "a @ b"', f'echo "a {W} b"', id="double-quotes"),
    pytest.param("echo 'a @ b'", f"echo 'a '{V}' b'", id="single-quotes"),
    pytest.param("cat <<EOF\na @\nEOF", f"cat <<EOF\na {W}\nEOF", id="heredoc"),
    pytest.param("cat <<-EOF\n\t@\n\tEOF\n", f"cat <<-EOF\n\t{W}\n\tEOF\n", id="heredoc-with-tabs"),
    pytest.param("cat <<A <<B\n@\nA\n@\nB", f"cat <<A <<B\n{W}\nA\n{W}\nB", id="two-heredocs"),
    pytest.param("cat <<< @", f"cat <<< {V}", id="here-string"),
    pytest.param("X=@ make", f"X={V} make", id="assignment"),
    pytest.param("export X=@", f"export X={V}", id="export"),
    pytest.param("echo $(cat @)", f"echo $(cat {V})", id="substitution"),
    pytest.param('echo "$(cat "@")"', f'echo "$(cat "{W}")"', id="quotes-in-substitution"),
    pytest.param("(cd @ && ls)", f"(cd {V} && ls)", id="subshell"),
    pytest.param("{ echo @; }", f"{{ echo {V}; }}", id="group"),
    pytest.param("f() { echo @; }\nf", f"f() {{ echo {V}; }}\nf", id="function"),
    pytest.param("if [ @ = x ]; then echo @; fi", f"if [ {V} = x ]; then echo {V}; fi", id="if"),
    pytest.param("for i in a @ b; do echo $i; done", f"for i in a {V} b; do echo $i; done", id="for"),
    pytest.param("case @ in @) echo y;; *) echo @;; esac",
                 f"case {V} in {V}) echo y;; *) echo {V};; esac", id="case"),
    pytest.param("x=$(case a in (a) echo @;; esac); echo $x",
                 f"x=$(case a in (a) echo {V};; esac); echo $x", id="case-in-substitution"),
    pytest.param("echo x > @", f"echo x > {V}", id="redirection"),
    pytest.param("make 2>&1 | tee @", f"make 2>&1 | tee {V}", id="pipe"),
    pytest.param("echo a \\\n  @", f"echo a \\\n  {V}", id="continued-line"),
    pytest.param("./bin/@ run", f"./bin/{V} run", id="command-with-a-path"),
    pytest.param("a=(x @)", f"a=(x {V})", id="array"),
    pytest.param("diff <(sort @) b", f"diff <(sort {V}) b", id="process-substitution"),
    pytest.param("echo ${X:-a} @", f"echo ${{X:-a}} {V}", id="after-a-parameter"),
    pytest.param("echo $((1 + (2))) @", f"echo $((1 + (2))) {V}", id="after-arithmetic"),
    pytest.param("echo `date` @", f"echo `date` {V}", id="after-backticks"),
    pytest.param("[[ a == b ]] || echo @", f"[[ a == b ]] || echo {V}", id="after-brackets"),
    pytest.param("echo $'\\n' @", f"echo $'\\n' {V}", id="after-dollar-quotes"),
    pytest.param("echo x # don't\necho @", f"echo x # don't\necho {V}", id="after-a-comment"),
    pytest.param("cat <<'E'\n$(x 'y\nE\necho @", f"cat <<'E'\n$(x 'y\nE\necho {V}",
                 id="after-a-quoted-heredoc"),
    pytest.param("printf '%s\\n' @", f"printf '%s\\n' {V}", id="printf-argument"),
    pytest.param("a && b || c & echo @", f"a && b || c & echo {V}", id="lists"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), ACCEPTED)
def test_value_is_placed_in_the_form_of_its_place(script: str, expected: str) -> None:
    """Every accepted place has its own quoting."""
    assert expected == place_holes(pieces_of(script)).script


REFUSED = [
    pytest.param("cat <<'EOF'\n@\nEOF", "quoted delimiter", id="quoted-heredoc"),
    pytest.param('cat <<"EOF"\n@\nEOF', "quoted delimiter", id="double-quoted-heredoc"),
    pytest.param("cat <<\\EOF\n@\nEOF", "quoted delimiter", id="escaped-heredoc"),
    pytest.param("cat <<@\nx", "end a heredoc", id="heredoc-delimiter"),
    pytest.param("echo $((@ + 1))", "arithmetic", id="arithmetic"),
    pytest.param("((x = @))", "arithmetic", id="arithmetic-command"),
    pytest.param("for ((i=0; i<@; i++)); do :; done", "arithmetic", id="arithmetic-for"),
    pytest.param("echo $[@]", "arithmetic", id="old-arithmetic"),
    pytest.param("let x=@", "`let`", id="let"),
    pytest.param("echo ${X:-@}", "`${…}`", id="parameter"),
    pytest.param('echo "${X:-@}"', "`${…}`", id="parameter-in-quotes"),
    pytest.param("[[ @ == x ]]", "`[[ ]]`", id="brackets"),
    pytest.param("if [[ -n @ ]]; then :; fi", "`[[ ]]`", id="brackets-after-if"),
    pytest.param("echo `cat @`", "backticks", id="backticks"),
    pytest.param('echo "`cat @`"', "backticks", id="backticks-in-quotes"),
    pytest.param("echo x # @", "comment", id="comment"),
    pytest.param("eval @", "`eval`", id="eval"),
    pytest.param('eval "x @"', "`eval`", id="eval-quoted"),
    pytest.param("command eval @", "`eval`", id="eval-after-command"),
    pytest.param("! eval @", "`eval`", id="eval-after-not"),
    pytest.param("trap 'rm @' EXIT", "`trap`", id="trap"),
    pytest.param("read @", "`read`", id="read"),
    pytest.param("unset @", "`unset`", id="unset"),
    pytest.param("declare @=1", "name that `declare` sets", id="declare-name"),
    pytest.param("export @", "name that `export` sets", id="export-name"),
    pytest.param("declare -i n\nn=@", "attributes", id="integer-variable"),
    pytest.param("printf -v @ x", "printf -v", id="printf-variable"),
    pytest.param("printf @", "format", id="printf-format"),
    pytest.param('printf "%s @" x', "format", id="printf-format-in-quotes"),
    pytest.param("@ --help", "name of the command", id="command"),
    pytest.param("x && @ y", "name of the command", id="command-after-and"),
    pytest.param("echo $(@)", "name of the command", id="command-in-substitution"),
    pytest.param("exec @", "name of the command", id="command-after-exec"),
    pytest.param("X=1 @", "name of the command", id="command-after-assignment"),
    pytest.param("ev@ x", "name of the command", id="part-of-a-command"),
    pytest.param("a[@]=1", "subscript", id="subscript"),
    pytest.param("a['@']=1", "subscript", id="quoted-subscript"),
    pytest.param("a=([@]=1)", "subscript", id="subscript-in-array"),
    pytest.param("for @ in a; do :; done", "name in the script", id="loop-variable"),
    pytest.param("echo $@", "`$` stands directly", id="dollar"),
    pytest.param('echo "$@"', "`$` stands directly", id="dollar-in-quotes"),
    pytest.param("echo \\@", "backslash", id="backslash"),
    pytest.param('echo "\\@"', "backslash", id="backslash-in-quotes"),
    pytest.param("cat <<E\n\\@\nE", "backslash", id="backslash-in-heredoc"),
    pytest.param("echo $'@'", "cannot stand in $'", id="dollar-quotes"),
    pytest.param("echo 2>&@", "file descriptor", id="file-descriptor"),
    pytest.param("echo >&2'@'", "file descriptor", id="part-of-a-file-descriptor"),
    pytest.param('echo >& "x@"', "file descriptor", id="word-that-bash-expands-twice"),
    pytest.param('echo "@', "not closed", id="open-quote"),
    pytest.param("echo '@", "not closed", id="open-single-quote"),
    pytest.param("echo $(echo @", "not closed", id="open-substitution"),
    pytest.param("cat <<E\n@", "not closed", id="open-heredoc"),
    pytest.param("source @", "would run a file", id="source"),
    pytest.param("[ -v @ ]", "-v", id="test-v"),
    pytest.param("[ @ @ ]", "operator", id="two-values-in-test"),
    pytest.param("echo @(a@)", "", id="extended-pattern"),
]


@pytest.mark.parametrize(("script", "reason"), REFUSED)
def test_value_is_refused_where_quoting_cannot_help(script: str, reason: str) -> None:
    """A place where the shell would read the value as code says so, with a remedy."""
    with pytest.raises(Refusal) as refused:
        place_holes(pieces_of(script))
    assert reason in refused.value.reason
    assert refused.value.remedy


def test_sh_takes_no_values_after_what_it_reads_differently() -> None:
    """`$'…'` is a quote in bash and a dollar in sh, so sh scripts with it end there."""
    script = "echo $'\\'' @"
    assert "${PLUE_V1}" in placed_for(script, "bash").script
    with pytest.raises(Refusal):
        placed_for(script, "sh")


WARNED = [
    pytest.param("bash -c 'echo @'", "bash -c", id="bash-c"),
    pytest.param("sudo sh -ec 'echo @'", "sh -c", id="sudo-sh-ec"),
    pytest.param('ssh -p 22 host "ls @"', "ssh", id="ssh"),
    pytest.param("python3 -c 'print(@)'", "python3 -c", id="python"),
    pytest.param("x=@; echo $((x + 1))", "arithmetic", id="assigned-and-computed"),
]


@pytest.mark.parametrize(("script", "said"), WARNED)
def test_lint_warns_where_another_program_reads_code(script: str, said: str) -> None:
    """The step's own shell does not parse the value; the program that gets it may."""
    ((_, warning),) = place_holes(pieces_of(script)).warnings
    assert said in warning


@pytest.mark.parametrize("script", ["ssh @ ls", "bash script.sh @", "sh -c 'echo \"$1\"' x @"])
def test_lint_is_silent_where_the_value_is_an_argument(script: str) -> None:
    """Only the word that is read as code is warned about."""
    assert place_holes(pieces_of(script)).warnings == ()


# ── real shells ──────────────────────────────────────────────────────────────────────────────────

PRINTING = [
    pytest.param("printf '%s' @", id="bare"),
    pytest.param('printf \'%s\' "@"', id="double-quotes"),
    pytest.param("printf '%s' '@'", id="single-quotes"),
    pytest.param("x=@; printf '%s' \"$x\"", id="assignment"),
    pytest.param("export X=@; printf '%s' \"$X\"", id="export"),
    pytest.param("f() { printf '%s' @; }; f", id="function"),
    pytest.param("( printf '%s' @ )", id="subshell"),
    pytest.param("case @ in @) printf '%s' @;; esac", id="case"),
    pytest.param("for i in @; do printf '%s' \"$i\"; done", id="for"),
    pytest.param("if [ @ = \"@\" ]; then printf '%s' '@'; fi", id="if"),
    pytest.param("x() { cat <<EOF\n@\nEOF\n}; y=$(x; echo .); y=${y%.}; printf '%s' \"${y%?}\"", id="heredoc"),
    pytest.param("y=\"$(printf '%s.' \"@\")\"; printf '%s' \"${y%.}\"", id="nested"),
]  # fmt: skip


def run_script(shell: Sequence[str], script: str, value: str, folder: Path) -> str:
    """Run a placed script with the value in its environment; nothing else may happen."""
    done = subprocess.run(
        [*shell, "-c", script],
        env={"PATH": os.environ["PATH"], "PLUE_V1": value, "LC_ALL": "C.UTF-8"},
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert list(folder.iterdir()) == []
    return done.stdout.decode()


SHELLS = [
    pytest.param(["bash", "--noprofile", "--norc", "-eo", "pipefail"], id="bash"),
    pytest.param(["sh", "-e"], id="sh"),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", PRINTING)
def test_real_shell_gives_the_value_verbatim(shell: list[str], script: str, tmp_path: Path) -> None:
    """Whatever the value is, the shell prints exactly it and executes nothing of it."""
    placed = placed_for(script, shell[0]).script
    for value in NASTY:
        assert value == run_script(shell, placed, value, tmp_path)


VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@st.composite
def accepted_scripts(draw: st.DrawFn) -> str:
    """Draw a script of printing commands, with literal text around the holes."""
    quoted = st.text("ab c#;&|(){}[]<>=*\n-!~", max_size=6)
    forms = [
        lambda a, b: f"printf '[%s]' '{a}@{b}'",
        lambda a, b: f'printf "[%s]" "{a}@{b}"',
        lambda a, b: f"y=$(printf '%s.' '{a}'@\"{b}\"); printf '[%s]' \"${{y%.}}\"",
        lambda a, b: f"x='{a}'\"@\"'{b}'; printf '[%s]' \"$x\"",
    ]
    parts = [draw(st.sampled_from(forms))(draw(quoted), draw(quoted)) for _ in range(3)]
    return draw(st.sampled_from(["\n", "; ", " && "])).join(parts)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=accepted_scripts(), value=VALUES)
def test_random_scripts_print_the_value_exactly(
    script: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a script prints is its text with the value in the place of the hole."""
    folder = tmp_path_factory.mktemp("empty")
    marker = "@VALUE@".replace("@", "\x01")
    expected = run_script(
        ["bash"],
        "".join(p if isinstance(p, str) else marker for p in pieces_of(script)),
        "",
        folder,
    ).replace(marker, value)
    placed = place_holes(pieces_of(script)).script
    assert expected == run_script(["bash"], placed, value, folder)
    placed = placed_for(script, "sh").script
    assert expected == run_script(["sh"], placed, value, folder)


TOKENS = [
    "@", "@", "@", " ", " ", "\n", ";", "&&", "|", "(", ")", "{ ", "; }", "$(", "${", "$((", "((",
    "))", "}", "[[ ", " ]]", "[ ", " ]", "`", "'", '"', "\\", "$", "$'", '$"', "<<E\n", "<<'E'\n",
    "\nE\n", "<<<", "<", ">&2", ">", ">&", "&>", ">|", "<&", "2", "<(", "case ", " in ", "esac", ";;", "if ", "then ", "fi", "for ",
    "do ", "done", "x=", "a[", "]=", "x=(", "eval ", "echo ", "export ", "declare -i ", "test ",
    "-v ", "printf ", "#", "!", "=", "*", "x", "1", "+", "f() ", "\t", "&", "time ", "function ",
    "read ", "let ", "-eq ", "coproc ", "@(", "\\\n",
]  # fmt: skip
BASH = shutil.which("bash") or "bash"
BAITS = [
    "$(: >hacked)`: >hacked`",
    "';: >hacked #",
    '";: >hacked #',
    "x;: >hacked",
    "\n: >hacked\n",
    "E\n: >hacked",
    "a[$(: >hacked)]",
    ") ;: >hacked",
    "}\n: >hacked",
]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(tokens=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=14))
def test_random_text_never_lets_a_value_execute(
    tokens: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Either the hole is refused, or the shell executes nothing of the value."""
    script = "".join(tokens)
    try:
        placement = place_holes(pieces_of(script))
    except Refusal:
        return
    if "@" not in script or placement.warnings:
        return
    folder = tmp_path_factory.mktemp("empty")
    for bait in BAITS:
        subprocess.run(
            [BASH, "--noprofile", "--norc", "-c", placement.script],
            env={"PATH": "/nowhere", "PLUE_V1": bait},
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
        assert not (folder / "hacked").exists()
