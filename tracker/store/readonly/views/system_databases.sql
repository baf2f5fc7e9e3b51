-- What clients ask system.databases for.
SELECT name, engine, '' AS data_path, '' AS metadata_path, uuid, engine_full, comment
FROM system.databases
WHERE name = '{views}'
