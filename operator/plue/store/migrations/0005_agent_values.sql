-- What an agent says of itself is sent when a workflow's code asks for it, as what a step printed.

ALTER TABLE workflow_values DROP CONSTRAINT only_streams_are_sent;
ALTER TABLE workflow_values ADD CONSTRAINT only_what_is_asked_for_is_sent
    CHECK (field IN ('stdout', 'stderr', 'log', 'status', 'summary', 'turns'));
