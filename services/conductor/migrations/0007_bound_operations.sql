-- Every unfinished operation has a deadline, and remembered requests are swept by their age. What is not said here is as in
-- 0005. Source: MECHANICS B5, B6, C3.

-- The default is one value for all rows that are there, kept in the catalog: what has ended, most of an old cloud's rows, is
-- not written again, and nobody looks at its deadline.
ALTER TABLE operation ADD COLUMN deadline_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE operation ALTER COLUMN deadline_at DROP DEFAULT;
-- What is under way has from now on as long as the longest phase may take.
UPDATE operation SET deadline_at = now() + interval '1 hour 10 minutes' WHERE NOT finished;
-- deadline_s: from the beginning of its phase.
ALTER TYPE operation_write ADD ATTRIBUTE deadline_s double precision;

CREATE INDEX request_aged ON request (created_at);
-- Finds the items of a batch, of which there are few among all requests.
CREATE INDEX request_of_batch ON request (request_id) WHERE method LIKE '%#%';

-- A deadline holds for its phase: it is set when that begins and stays through all that is told within it.
CREATE OR REPLACE FUNCTION write_operations(operations operation_write[], refused integer[], first bigint) RETURNS changed[]
LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    -- Ends before beginnings, so that one item can put an operation in another's place.
    WITH numbered AS (
        SELECT w.*, first + row_number() OVER (ORDER BY w.item, w.id) AS revision
          FROM unnest(operations) w WHERE w.item <> ALL (refused)
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, body,
                                 before, before_revision, before_epoch)
        SELECT w.revision, 2, w.id::text, w.project_id, w.expected + 1, 0, false, false, w.body, o.body, o.revision, 0
          FROM numbered w LEFT JOIN operation o ON o.id = w.id
        RETURNING c.id, c.version, c.revision, c.before, c.before_revision
    ), moved AS (
        UPDATE operation o SET state = w.state, phase = w.phase, tries = w.tries, finished = w.finished, looks = 0,
               look_again_at = now() + make_interval(secs => w.look_again_s),
               deadline_at = CASE WHEN w.phase = o.phase THEN o.deadline_at
                                  ELSE now() + make_interval(secs => w.deadline_s) END,
               version = w.expected + 1, revision = w.revision, body = w.body
          FROM numbered w WHERE o.id = w.id AND w.expected > 0
    )
    SELECT array_agg(ROW (2, id, version, revision, 0, NULL, NULL, before, before_revision, 0, NULL)::changed)
      INTO changes FROM logged;
    IF EXISTS (SELECT FROM unnest(operations) WHERE expected = 0) THEN
        INSERT INTO operation (id, project_id, resource_id, action, state, phase, tries, finished, look_again_at,
                               deadline_at, version, revision, body)
        SELECT w.id, w.project_id, w.resource_id, w.action, w.state, w.phase, w.tries, w.finished,
               now() + make_interval(secs => w.look_again_s), now() + make_interval(secs => w.deadline_s), 1, w.revision,
               w.body
          FROM (SELECT o.*, first + row_number() OVER (ORDER BY o.item, o.id) AS revision
                  FROM unnest(operations) o WHERE o.item <> ALL (refused)) w
         WHERE w.expected = 0;
    END IF;
    RETURN changes;
END $$;
