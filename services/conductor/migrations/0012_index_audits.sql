-- Text ids are compared by their bytes here too, as in 0003 and 0006: where two columns that are joined differ in that, no
-- index serves, and an audit reads a whole table for each row of its page.

ALTER TABLE instance ALTER COLUMN project_id TYPE text COLLATE "C";
ALTER TABLE inventory ALTER COLUMN host_id TYPE text COLLATE "C";
ALTER TABLE guest ALTER COLUMN host_id TYPE text COLLATE "C";
