-- What clients ask system.columns for.
SELECT
    database, table, name, type, position, default_kind, default_expression,
    toUInt64(0) AS data_compressed_bytes, toUInt64(0) AS data_uncompressed_bytes, toUInt64(0) AS marks_bytes, comment,
    is_in_partition_key, is_in_sorting_key, is_in_primary_key, is_in_sampling_key, '' AS compression_codec,
    character_octet_length, numeric_precision, numeric_precision_radix, numeric_scale, datetime_precision
FROM system.columns
WHERE database = '{views}' AND NOT startsWith(table, 'system_')
