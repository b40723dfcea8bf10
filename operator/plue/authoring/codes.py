"""Every diagnostic's code, title and explanation: the text behind ``plue explain PLU012``.

A code never changes its meaning and is never used again. This module is also loaded inside the
evaluator's sandbox, so it imports nothing but the standard library.

    PLU0xx  the file as Python          PLU4xx  commands and shells
    PLU1xx  what a decorator declares   PLU5xx  values, references, text
    PLU2xx  inputs of a run             PLU6xx  evaluation as a whole
    PLU3xx  steps and their order       PLU7xx  prompts and their templates
    PLU8xx  .plue/config.yaml           PLU9xx  not supported in this version
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["EXPLANATIONS", "Code", "Explanation", "explanation_of"]


class Code(StrEnum):
    """The codes by name; the value is what people see."""

    SYNTAX = "PLU001"
    FILE_TOO_LARGE = "PLU002"
    BAD_TEXT = "PLU003"
    TOO_NESTED = "PLU004"
    UNREADABLE = "PLU005"
    IMPORT = "PLU010"
    IMPORT_NAME = "PLU011"
    UNDEFINED = "PLU012"
    UNDERSCORE = "PLU013"
    ASYNC = "PLU014"
    BARE_EXCEPT = "PLU015"
    FINALLY_JUMP = "PLU016"
    FORBIDDEN_NAME = "PLU017"
    FORBIDDEN_SYNTAX = "PLU018"
    METACLASS = "PLU019"
    MATCH_CLASS = "PLU020"
    INSPECTION = "PLU021"
    GENERATOR = "PLU022"
    SHELL_VARIABLE = "PLU023"
    PARALLEL_FORM = "PLU024"
    NO_WORKFLOW = "PLU025"
    IMPORT_BROKEN = "PLU026"
    IMPORT_CYCLE = "PLU027"
    FROZEN = "PLU028"
    DECORATOR = "PLU101"
    DUPLICATE_WORKFLOW = "PLU102"
    TRIGGER = "PLU103"
    DURATION = "PLU104"
    TYPE = "PLU105"
    REQUIRED_BESIDE_TRIGGER = "PLU106"
    OPTION = "PLU107"
    UNKNOWN_INPUT = "PLU201"
    MISSING_INPUT = "PLU202"
    INPUT_TYPE = "PLU203"
    UNKNOWN_WORKFLOW = "PLU204"
    STEP_NAME = "PLU301"
    DUPLICATE_STEP = "PLU302"
    UNKNOWN_DEPENDENCY = "PLU303"
    CYCLE = "PLU304"
    SELF_DEPENDENCY = "PLU305"
    STEP_ARGUMENT = "PLU306"
    TOO_MANY_STEPS = "PLU307"
    PARALLEL_HANDLE = "PLU308"
    SUCCESS_IN_BRANCH = "PLU309"
    OK_UNHANDLED = "PLU310"
    CLEANUP_VALUE = "PLU311"
    CALL = "PLU312"
    PATH = "PLU320"
    CACHE = "PLU321"
    CMD_IS_DATA = "PLU401"
    HOLE = "PLU402"
    HOLE_OTHER_SHELL = "PLU403"
    CMD_TOO_LONG = "PLU404"
    ENV_NAME = "PLU405"
    CMD_FORM = "PLU406"
    VALUE_TOO_LARGE = "PLU407"
    NESTED_SHELL = "PLU408"
    HANDLE_AS_VALUE = "PLU501"
    UNKNOWN_FIELD = "PLU502"
    TEXT_WITH_NUMBER = "PLU503"
    NO_TEXT = "PLU504"
    MISSING_VALUE = "PLU505"
    OUTPUT_TOO_LARGE = "PLU511"
    SECRET = "PLU520"  # noqa: S105 - a code's name
    WORKFLOW_ERROR = "PLU601"
    TIMEOUT = "PLU602"
    MEMORY = "PLU603"
    RECURSION = "PLU604"
    RESULT_TOO_LARGE = "PLU605"
    CRASHED = "PLU606"
    REPLAY = "PLU607"
    TOO_MANY_STAGES = "PLU610"
    FORBIDDEN_CALL = "PLU608"
    FRONT_MATTER = "PLU701"
    PROMPT_KEY = "PLU702"
    PROMPT_VALUE = "PLU703"
    PROMPT_TYPE = "PLU704"
    PROMPT_RESERVED = "PLU705"
    DUPLICATE_PROMPT = "PLU706"
    TEMPLATE_SYNTAX = "PLU710"
    TEMPLATE_NAME = "PLU711"
    TEMPLATE_FILTER = "PLU712"
    TEMPLATE_FILE = "PLU713"
    TEMPLATE_CYCLE = "PLU714"
    TEMPLATE_FORBIDDEN = "PLU715"
    TEMPLATE_LIMIT = "PLU716"
    TEMPLATE_VALUE = "PLU717"
    UNUSED_INPUT = "PLU718"
    OUTSIDE_BLOCKS = "PLU719"
    UNKNOWN_PROMPT = "PLU720"
    PROMPT_BROKEN = "PLU721"
    PROMPT_CALL = "PLU722"
    PROMPT_INPUT = "PLU723"
    TOOL = "PLU730"
    UNKNOWN_TOOL = "PLU731"
    CONFIG_SYNTAX = "PLU801"
    CONFIG_KEY = "PLU802"
    CONFIG_VALUE = "PLU803"
    UNSUPPORTED = "PLU901"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``plue explain`` prints."""

    code: Code
    title: str
    text: str


_TEXTS: Final[tuple[tuple[Code, str, str], ...]] = (
    (
        Code.SYNTAX,
        "The file is not Python",
        (
            "Python's own parser refused the file. It reports the first error only, so repair that "
            "one and check again. Workflow files are parsed by the Python that runs the server."
        ),
    ),
    (
        Code.FILE_TOO_LARGE,
        "The file is too large",
        (
            "A workflow file may have 512 KiB. Move long scripts into files of the repository and "
            "call them from a step."
        ),
    ),
    (
        Code.BAD_TEXT,
        "The file is not text",
        "A workflow file is UTF-8 text without NUL characters and lone surrogates.",
    ),
    (
        Code.TOO_NESTED,
        "The code is nested too deeply",
        (
            "An expression or a block has more levels than Python's compiler can take. Give the "
            "inner parts names."
        ),
    ),
    (
        Code.UNREADABLE,
        "The file cannot be read",
        "The file is there, but the user that runs Plue may not read it, or the disk fails.",
    ),
    (
        Code.IMPORT,
        "This module cannot be imported",
        (
            "A workflow is evaluated in a sandbox without files, network, clock and randomness, so "
            "only `plue` can be imported, and the small safe parts of json, re, math, itertools, "
            "textwrap and dataclasses that are there without an import too. Whatever needs the "
            "outside world belongs into a step: ctx.run(...)."
        ),
    ),
    (
        Code.IMPORT_NAME,
        "There is no such name in this module",
        (
            "`from plue import …` gives the names of the workflow language; the message lists the "
            "nearest one."
        ),
    ),
    (
        Code.UNDEFINED,
        "The name is not defined",
        (
            "Nothing in this file defines the name, and it is not one of the built-in functions "
            "that a workflow may use."
        ),
    ),
    (
        Code.UNDERSCORE,
        "Names that start with an underscore are reserved",
        (
            "Python's internals start with underscores and the sandbox keeps them out of reach: "
            "variables, attributes, arguments and keywords alike. `_` alone is allowed."
        ),
    ),
    (
        Code.ASYNC,
        "Workflows are not asynchronous",
        (
            "async and await are not needed: steps run when the runner can run them. Use "
            "ctx.parallel([...]) for what may run at the same time."
        ),
    ),
    (
        Code.BARE_EXCEPT,
        "A bare `except:` would swallow the end of a stage",
        (
            "Asking for a value that is not known yet ends the stage, and that must reach Plue. "
            "Write `except Exception:` or name the exception."
        ),
    ),
    (
        Code.FINALLY_JUMP,
        "`return`, `break` or `continue` inside `finally`",
        (
            "It would swallow whatever is being raised, the end of a stage included. Put it after "
            "the try statement."
        ),
    ),
    (
        Code.FORBIDDEN_NAME,
        "This built-in function is not there",
        (
            "The sandbox leaves out what reaches the outside world (open, input), what looks into "
            "Python itself (eval, type, globals) and what is different each time (id, hash)."
        ),
    ),
    (
        Code.FORBIDDEN_SYNTAX,
        "This statement is not part of the workflow language",
        "The language is Python without the parts that cannot be replayed safely.",
    ),
    (
        Code.METACLASS,
        "Classes are plain",
        "Metaclasses and class keywords are not supported; use a plain class or @dataclass.",
    ),
    (
        Code.MATCH_CLASS,
        "This pattern is not supported",
        (
            "`match` compares with literals, sequences and mappings, and captures names. Class "
            "patterns and dotted names are not supported: write `if` for those."
        ),
    ),
    (
        Code.INSPECTION,
        "Python's own frames and code are out of reach",
        "Attributes such as gi_frame, f_globals or tb_frame lead out of the sandbox.",
    ),
    (
        Code.GENERATOR,
        "Steps cannot be recorded inside a generator",
        (
            "A generator runs when somebody iterates it, so the order of steps would depend on who "
            "does. Use a list comprehension or a plain loop."
        ),
    ),
    (
        Code.SHELL_VARIABLE,
        "A shell variable inside an f-string",
        "In an f-string `{HOME}` is Python's. Write `$HOME`, or `${{HOME}}` to keep the braces.",
    ),
    (
        Code.PARALLEL_FORM,
        "ctx.parallel takes a list written inside the call",
        (
            "Each element is a branch that Plue evaluates by itself, so the list display or the "
            "comprehension must stand inside the parentheses: "
            "ctx.parallel([test(ctx, p) for p in packages])."
        ),
    ),
    (
        Code.NO_WORKFLOW,
        "The file declares no workflow",
        "A file in .plue/workflows has at least one function with the @workflow decorator.",
    ),
    (
        Code.IMPORT_BROKEN,
        "The imported file has errors",
        "A file can be imported when it has no errors. They are told at their own places.",
    ),
    (
        Code.IMPORT_CYCLE,
        "Files import each other",
        "Imports go one way. Move what both files need into a third one.",
    ),
    (
        Code.FROZEN,
        "What a module of lib has made cannot be changed",
        (
            "A module of .plue/lib is executed once, and what it has made is frozen then: no call "
            "of its functions may depend on an earlier one. Change a copy, or pass the value as "
            "an argument and return the new one."
        ),
    ),
    (
        Code.DECORATOR,
        "The @workflow decorator is used wrongly",
        "Write @workflow(triggers=[...]) above `def name(ctx):`.",
    ),
    (
        Code.DUPLICATE_WORKFLOW,
        "Two workflows have the same name",
        "The name of a workflow is its function's name, and is unique in a repository.",
    ),
    (
        Code.TRIGGER,
        "The trigger is declared wrongly",
        (
            "Triggers are push(branches=, tags=, paths=), pull_request(branches=, paths=, types=), "
            'schedule("minute hour day month weekday") and manual(inputs={...}).'
        ),
    ),
    (
        Code.DURATION,
        "This is not a duration",
        'Write "30m", "90s", "1h30m", "500ms", or a number of seconds greater than zero.',
    ),
    (
        Code.TYPE,
        "This is not a type",
        (
            'Types are str, int, float, bool, list(T), enum("a", "b"), optional(T), schema(...). A '
            "plain value stands for its type with that value as the default."
        ),
    ),
    (
        Code.REQUIRED_BESIDE_TRIGGER,
        "A required input beside a trigger that is not manual",
        (
            "A push or a schedule gives no inputs, so such a run could never start. Give the input "
            "a default, or make it optional(T)."
        ),
    ),
    (
        Code.OPTION,
        "There is no such option",
        "The call has a keyword that it does not know; the message names the nearest one.",
    ),
    (
        Code.UNKNOWN_INPUT,
        "The workflow has no such input",
        "Inputs are declared by manual(inputs={...}).",
    ),
    (
        Code.MISSING_INPUT,
        "A required input was not given",
        "An input without a default that is not optional(T) must be given to every run.",
    ),
    (
        Code.INPUT_TYPE,
        "An input has the wrong type",
        (
            "Over the API inputs are checked strictly as JSON. On the command line their text is "
            "parsed by the declared type."
        ),
    ),
    (
        Code.UNKNOWN_WORKFLOW,
        "There is no workflow of this name",
        "`plue workflow list` shows all of them; a workflow's name is its function's name.",
    ),
    (
        Code.STEP_NAME,
        "This is not a name for a step",
        (
            "A name starts with a letter or a digit and has up to 100 letters, digits, spaces and "
            "the characters _ . : - in it."
        ),
    ),
    (
        Code.DUPLICATE_STEP,
        "Two steps have the same name",
        (
            "Names are unique in a run. The same line in a loop gets `test`, `test#2`, … by "
            'itself; two places or two branches must choose their names: f"test-{p}".'
        ),
    ),
    (
        Code.UNKNOWN_DEPENDENCY,
        "depends_on names a step that is not there",
        "Use the handle that ctx.run returned, or the name of a step of this run.",
    ),
    (
        Code.CYCLE,
        "Steps wait for each other",
        (
            "A plain step starts after everything recorded above it in its branch. A step that "
            "depends on a later one therefore usually waits for itself: move the later one up."
        ),
    ),
    (
        Code.SELF_DEPENDENCY,
        "A step depends on itself",
        "Remove the step's own name from depends_on.",
    ),
    (
        Code.STEP_ARGUMENT,
        "An argument of the step is wrong",
        "The message names the argument and what it takes.",
    ),
    (
        Code.TOO_MANY_STEPS,
        "The run has too many steps",
        "A run may have 1,000 steps. Let one step do several things, or start several runs.",
    ),
    (
        Code.PARALLEL_HANDLE,
        "The step was recorded before ctx.parallel",
        (
            "An element of ctx.parallel records its steps inside the call. A handle that was made "
            "earlier has its place already: write ctx.run(...) into the list."
        ),
    ),
    (
        Code.SUCCESS_IN_BRANCH,
        "ctx.success inside ctx.parallel",
        (
            "One branch cannot end the function in success while others go on. Call ctx.success "
            "after ctx.parallel."
        ),
    ),
    (
        Code.OK_UNHANDLED,
        "The answer could only be success",
        (
            "A failure that nobody handles ends the branch, so code that asks .ok or .exit_code is "
            "never reached after one. Add continue_on_error=True to the step that is asked."
        ),
    ),
    (
        Code.CLEANUP_VALUE,
        "A clean-up's value comes too late",
        (
            "ctx.cleanup records what runs after everything else has ended, so the function cannot "
            "wait for its values. Use ctx.run for a step whose result is needed."
        ),
    ),
    (
        Code.CALL,
        "The workflow cannot be called like this",
        (
            "A workflow calls another one with ctx.call(release, version=...): its steps are "
            "recorded in this place, as `release/build`. It is imported by "
            "`from workflows.release import release`. Calls may be nested 8 deep."
        ),
    ),
    (
        Code.PATH,
        "The path is not inside the workspace",
        (
            "ctx.read, ctx.glob, ctx.write and ctx.git work inside the workspace. Paths are "
            "relative to it; absolute ones, `..` and links that lead out are refused."
        ),
    ),
    (
        Code.CACHE,
        "The cache cannot be kept so",
        (
            "A step's cache=cache(paths=[...], key=...) names files and folders below the "
            "workspace or the home folder (`~/`), not patterns, and a key of text. A hash in the "
            "key makes a new cache when a file changes; restore_keys= are beginnings of older "
            "keys that will do for a start."
        ),
    ),
    (
        Code.CMD_IS_DATA,
        "The command is data",
        (
            "Values from inputs, events and other steps are never executed. Write the command and "
            "let the value be one of its words."
        ),
    ),
    (
        Code.HOLE,
        "A value cannot stand at this place of the command",
        (
            "Values reach a command as environment variables, placed so that the shell never reads "
            "them as code. Where that is impossible the place is refused. Pass the value with "
            'env={"NAME": value} and use "$NAME" where the shell allows it.'
        ),
    ),
    (
        Code.HOLE_OTHER_SHELL,
        "Values cannot stand in the text of this shell",
        (
            'Plue knows how to place values in sh and bash only. Use env={"X": value} and read the '
            "environment in the script."
        ),
    ),
    (
        Code.CMD_TOO_LONG,
        "The command is too long",
        "A command may have 96 KiB. Put the script into a file of the repository and call it.",
    ),
    (
        Code.ENV_NAME,
        "This is not a name for an environment variable",
        (
            "Letters, digits and underscores, not starting with a digit. PLUE_… is Plue's own, and "
            "variables that a shell executes (BASH_ENV, PS4 …) take no values from outside."
        ),
    ),
    (
        Code.CMD_FORM,
        "This is not a command",
        "cmd is text for the shell, or a list of words that runs without a shell.",
    ),
    (
        Code.VALUE_TOO_LARGE,
        "The value is too large for an environment variable",
        (
            "Linux allows 128 KiB for one string; Plue allows 96 KiB. Use stdin=value, which takes "
            "any size."
        ),
    ),
    (
        Code.NESTED_SHELL,
        "A value reaches a second shell",
        (
            "The step's own shell does not read the value as code, but the program that gets it "
            "here does: sh -c, ssh, python -c and the like. Pass the value as an argument or by "
            "env=."
        ),
    ),
    (
        Code.HANDLE_AS_VALUE,
        "A step's handle has no value itself",
        "Say which value is meant: build.ok, build.stdout, build.exit_code, build.outputs.name.",
    ),
    (
        Code.UNKNOWN_FIELD,
        "There is no such field",
        (
            "A handle has stdout, stderr, log, exit_code, ok, state, name and outputs, and the "
            "fields of its output= schema."
        ),
    ),
    (
        Code.TEXT_WITH_NUMBER,
        "Text is compared with a number",
        "What a command prints is text. Write int(...) or float(...) around it.",
    ),
    (
        Code.NO_TEXT,
        "This value has no text",
        (
            "None, handles, functions and objects cannot stand in text. Write what is meant, for "
            'example `value or ""`.'
        ),
    ),
    (
        Code.MISSING_VALUE,
        "The value is missing",
        "The step ended without this output. Use .outputs.get(name, default) when that is fine.",
    ),
    (
        Code.OUTPUT_TOO_LARGE,
        "The output is too large to be asked for",
        "Ask for its end with .tail(lines), or let the step write what matters to $PLUE_OUTPUT.",
    ),
    (
        Code.SECRET,
        "A secret cannot be used there",
        (
            "Secrets have names here and no values. They go only into env=, into the text of "
            "commands and into stdin=, also inside of longer texts; they cannot be compared, "
            "printed, given to prompts or other workflows, written to files or returned."
        ),
    ),
    (
        Code.WORKFLOW_ERROR,
        "The workflow's code raised an exception",
        "The message is Python's; the place is in the workflow file.",
    ),
    (
        Code.TIMEOUT,
        "The evaluation took too long",
        (
            "Evaluating a workflow takes milliseconds; there are five seconds for it. Look for a "
            "loop that does not end. Work belongs into steps."
        ),
    ),
    (
        Code.MEMORY,
        "The evaluation needs too much memory",
        "An evaluation has 256 MiB. Work on large data belongs into steps.",
    ),
    (
        Code.RECURSION,
        "The code calls itself without end",
        "Look for a function that calls itself without a condition that ends it.",
    ),
    (
        Code.RESULT_TOO_LARGE,
        "The plan is too large",
        "A plan may have 4 MiB. Pass large texts through files of the workspace.",
    ),
    (
        Code.CRASHED,
        "The evaluation ended without an answer",
        "Python itself ended. Usually the code drove it into a limit, such as very deep nesting.",
    ),
    (
        Code.TOO_MANY_STAGES,
        "The code asks for results too often",
        (
            "A value that is asked for before its step has ended is waited for. Along one branch "
            "that may happen 50 times: look for a loop without a bound."
        ),
    ),
    (
        Code.REPLAY,
        "The evaluation does not reproduce an earlier stage",
        "A later stage must record the same steps again before it adds new ones.",
    ),
    (
        Code.FORBIDDEN_CALL,
        "The code tried to leave the sandbox",
        "Workflow code has no files, no network and no processes; the kernel ended it.",
    ),
    (
        Code.FRONT_MATTER,
        "The prompt has no front matter that can be read",
        (
            "A prompt file begins with a line `---`, then YAML, then a line `---`; what follows is "
            "the text for the model. Anchors, aliases and tags of YAML are not supported."
        ),
    ),
    (
        Code.PROMPT_KEY,
        "The front matter has no such key, or has it twice",
        (
            "A prompt has name, description, client, type, inputs, output, tools, max_turns and "
            "extends. Nothing else is read, so nothing else is allowed."
        ),
    ),
    (
        Code.PROMPT_VALUE,
        "A value of the front matter is wrong",
        "Each key of the front matter takes values of its own; the message says which.",
    ),
    (
        Code.PROMPT_TYPE,
        "This is not a type",
        (
            "Types are string, integer, number, boolean, T? (may be absent), T[] (a list), "
            "low | high (one of these words), T = default, or fields below it. A list of objects "
            "is one `- field: type` block."
        ),
    ),
    (
        Code.PROMPT_RESERVED,
        "An input has a reserved name",
        (
            "A prompt is called with its inputs and with options of its step, all by name, so no "
            "input may be called name, timeout, retry, when, tools, client, max_turns or like "
            "another option; nor like what a template has anyway (loop, range, output_schema)."
        ),
    ),
    (
        Code.DUPLICATE_PROMPT,
        "Two prompts have one name",
        (
            "Workflows import prompts by name: code-review is CodeReview. Names that differ only "
            "in case and dashes are one name."
        ),
    ),
    (
        Code.TEMPLATE_SYNTAX,
        "The template cannot be parsed",
        "The text of a prompt is a Jinja2 template; its parser reports the first error of a file.",
    ),
    (
        Code.TEMPLATE_NAME,
        "The template uses a name that is not there",
        (
            "A template sees the inputs of its prompt, what it sets itself, and output_schema when "
            "the prompt has an output. An imported file sees no inputs: pass them to its macros."
        ),
    ),
    (
        Code.TEMPLATE_FILTER,
        "There is no such filter or test",
        "Templates have an allow-list of filters; the message names the nearest one.",
    ),
    (
        Code.TEMPLATE_FILE,
        "The file is not there",
        (
            "include, import and extends name a file below .plue/prompts/, in quotes: what a "
            "prompt is made of must be known before it runs."
        ),
    ),
    (
        Code.TEMPLATE_CYCLE,
        "Files include or extend each other",
        "Rendering would never end. Move what both need into a third file.",
    ),
    (
        Code.TEMPLATE_FORBIDDEN,
        "This is out of reach for a template",
        (
            "Templates reach the fields of their inputs and a few methods of text and lists. "
            "Python's insides, format strings and changes of values are not among them."
        ),
    ),
    (
        Code.TEMPLATE_LIMIT,
        "The template does too much",
        (
            "Rendering may take half a second of processor time and make 2 Mi characters. Work on "
            "data belongs into a step."
        ),
    ),
    (
        Code.TEMPLATE_VALUE,
        "The template cannot use the value so",
        "A null value has no text, and text is joined with ~. Test what is optional first.",
    ),
    (
        Code.UNUSED_INPUT,
        "The template never uses this input",
        "The model would not be told. Use it in the text, or remove it from inputs.",
    ),
    (
        Code.OUTSIDE_BLOCKS,
        "This text would not appear",
        (
            "A prompt that extends another one fills its blocks; what stands outside of a block "
            "has no place in the result."
        ),
    ),
    (
        Code.UNKNOWN_PROMPT,
        "There is no such prompt",
        (
            "`from plue.prompts import CodeReview` is the prompt whose name is code-review, from "
            ".plue/prompts/. `plue prompt list` shows all."
        ),
    ),
    (
        Code.PROMPT_BROKEN,
        "The imported prompt has errors",
        "`plue workflow lint` shows them in the prompt's own file.",
    ),
    (
        Code.PROMPT_CALL,
        "The prompt is called in a wrong way",
        (
            "A prompt is called inside a workflow, with its inputs by name: "
            "CodeReview(diff=ctx.git.diff())."
        ),
    ),
    (
        Code.PROMPT_INPUT,
        "A value does not fit the prompt's input",
        (
            "The types of the front matter hold: unknown inputs, missing ones and values of "
            "another type are errors when the plan is made."
        ),
    ),
    (
        Code.TOOL,
        "The tool cannot be given to a model",
        (
            "A function below @tool in .plue/tools/*.py has a docstring, which the model is told, "
            "and parameters with types, which become the JSON Schema of its input."
        ),
    ),
    (
        Code.UNKNOWN_TOOL,
        "There is no such tool",
        (
            "Agents have the built-in tools, //tools:name (a function below @tool in "
            ".plue/tools/*.py), //prompts:name (a prompt of type llm), and mcp:server or "
            "mcp:server/tool of the servers in .plue/config.yaml."
        ),
    ),
    (
        Code.CONFIG_SYNTAX,
        "The configuration cannot be read",
        (
            ".plue/config.yaml is YAML 1.2: names with values, without tags, anchors and doubled "
            "names. While it cannot be read no workflow runs, because its defaults are unknown."
        ),
    ),
    (
        Code.CONFIG_KEY,
        "The configuration has no such key",
        (
            "The message names the nearest key. `plue config --schema` prints a JSON Schema that "
            "editors complete from."
        ),
    ),
    (
        Code.CONFIG_VALUE,
        "A value of the configuration is wrong",
        "The message names the key and what it takes. Texts that look like numbers need quotes.",
    ),
    (
        Code.UNSUPPORTED,
        "Not supported in this version",
        "The language has it, this version of Plue has not. Nothing is ever ignored silently.",
    ),
)

EXPLANATIONS: Final = {code: Explanation(code, title, text) for code, title, text in _TEXTS}


def explanation_of(code: str) -> Explanation | None:
    """Return the explanation of *code* in any case (``plu012``), None when there is none."""
    try:
        return EXPLANATIONS[Code(code.strip().upper())]
    except ValueError:
        return None
