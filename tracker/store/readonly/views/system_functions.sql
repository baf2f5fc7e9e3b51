-- What clients ask system.functions for.
SELECT
    name, is_aggregate, case_insensitive, alias_to, '' AS create_query, origin, description, syntax, arguments,
    returned_value, examples, introduced_in, categories
FROM system.functions
WHERE origin = 'System'
