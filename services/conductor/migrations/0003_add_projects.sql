-- Projects with their quotas, the edition of a host, what an instance takes, and names in one order everywhere.

-- Counts the writes of what a host or an admin says of it; a writer must have seen the newest.
ALTER TABLE host ADD COLUMN edition bigint NOT NULL DEFAULT 1;

-- The system and timeline that this history is of; null until the first conductor has looked.
ALTER TABLE cloud ADD COLUMN system_identifier bigint, ADD COLUMN timeline bigint;

-- Names and text ids are compared by their bytes, so that pages can be joined outside of the database.
ALTER TABLE instance ALTER COLUMN name TYPE text COLLATE "C";
ALTER TABLE catalog ALTER COLUMN name TYPE text COLLATE "C";
CREATE INDEX catalog_living ON catalog (kind, project_id, id) WHERE NOT deleted;
-- For lists over all projects, which must not wade through the dead.
CREATE INDEX instance_living_all ON instance (id) WHERE NOT deleted;

-- version 0: nobody has made it known; it is there for what it uses. A limit that is null is the cloud's usual one, -1 is none.
CREATE TABLE project (
    id               text COLLATE "C" PRIMARY KEY,
    limit_instances  bigint,
    limit_vcpus      bigint,
    limit_memory_mib bigint,
    limit_disk_gib   bigint,
    used_instances   bigint NOT NULL DEFAULT 0 CHECK (used_instances >= 0),
    used_vcpus       bigint NOT NULL DEFAULT 0 CHECK (used_vcpus >= 0),
    used_memory_mib  bigint NOT NULL DEFAULT 0 CHECK (used_memory_mib >= 0),
    used_disk_gib    bigint NOT NULL DEFAULT 0 CHECK (used_disk_gib >= 0),
    deleted          boolean NOT NULL DEFAULT false,
    version          bigint NOT NULL DEFAULT 0,
    revision         bigint NOT NULL DEFAULT 0,
    body             bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50);

ALTER TABLE instance
    ADD COLUMN vcpus bigint NOT NULL DEFAULT 0,
    ADD COLUMN memory_mib bigint NOT NULL DEFAULT 0,
    ADD COLUMN disk_gib bigint NOT NULL DEFAULT 0;

-- What older instances take stands only in the stored message: the last value of a varint field, 0 if it is not there.
-- Source: the wire format of Protocol Buffers.
CREATE FUNCTION varint_field(message bytea, wanted integer) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    place integer := 0;
    tag bigint;
    number bigint;
    found bigint := 0;
    octet integer;
    shift integer;
    half integer;
BEGIN
    WHILE place < octet_length(message) LOOP
        FOR half IN 1..2 LOOP
            -- A tag, then for varints the value, for all that has a length the length.
            EXIT WHEN half = 2 AND (tag & 7) NOT IN (0, 2);
            number := 0;
            shift := 0;
            LOOP
                octet := get_byte(message, place);
                place := place + 1;
                number := number | ((octet & 127)::bigint << shift);
                shift := shift + 7;
                EXIT WHEN octet < 128;
            END LOOP;
            IF half = 1 THEN
                tag := number;
            END IF;
        END LOOP;
        CASE tag & 7
            WHEN 0 THEN
                IF tag >> 3 = wanted THEN
                    found := number;
                END IF;
            WHEN 1 THEN place := place + 8;
            WHEN 2 THEN place := place + number::integer;
            ELSE place := place + 4;
        END CASE;
    END LOOP;
    RETURN found;
END $$;
UPDATE instance SET
    vcpus = varint_field(wanted, 6), memory_mib = varint_field(wanted, 7), disk_gib = varint_field(wanted, 8);
DROP FUNCTION varint_field;
INSERT INTO project (id, used_instances, used_vcpus, used_memory_mib, used_disk_gib)
SELECT project_id, count(*), sum(vcpus), sum(memory_mib), sum(disk_gib) FROM instance WHERE NOT deleted GROUP BY project_id;
