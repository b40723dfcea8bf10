-- What a project declares: prompts beside workflows, and when each version was last met.
CREATE TABLE prompt_definitions (
    digest     text        NOT NULL,
    name       text        NOT NULL,
    file       text        NOT NULL,
    kind       text        NOT NULL,
    definition json        NOT NULL,
    files      json        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (digest, name),
    CONSTRAINT the_kind_is_known CHECK (kind IN ('llm', 'agent'))
);
COMMENT ON COLUMN prompt_definitions.definition IS
    'The front matter as it was read: client, JSON Schemas of inputs and output, tools, turns.';
COMMENT ON COLUMN prompt_definitions.files IS
    'Path to text of every file that the prompt is made of.';

ALTER TABLE workflow_definitions ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN workflow_definitions.seen_at IS
    'When it was last found in a tree or used by a submission, to within a day. Kept longer than
     the runs that were made from it.';
CREATE INDEX workflow_definitions_by_age ON workflow_definitions (seen_at);
CREATE INDEX prompt_definitions_by_age ON prompt_definitions (seen_at);
