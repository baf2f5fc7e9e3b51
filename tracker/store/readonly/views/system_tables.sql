-- What clients ask system.tables for.
SELECT
    database, name, uuid, engine, is_temporary, CAST([], 'Array(String)') AS data_paths, '' AS metadata_path,
    metadata_modification_time, '' AS create_table_query, '' AS engine_full, '' AS as_select, '' AS partition_key,
    '' AS sorting_key, '' AS primary_key, '' AS sampling_key, '' AS storage_policy,
    CAST(NULL, 'Nullable(UInt64)') AS total_rows, CAST(NULL, 'Nullable(UInt64)') AS total_bytes,
    CAST(NULL, 'Nullable(UInt64)') AS parts, comment
FROM system.tables
WHERE database = '{views}' AND NOT startsWith(name, 'system_')
