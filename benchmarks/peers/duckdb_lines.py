"""DuckDB copies from a bucket to a file: ``python duckdb_lines.py lines|ndjson BUCKET PREFIX OUTPUT``."""

import os
import sys

import duckdb  # type: ignore[import-not-found, unused-ignore]
from duckdb_extensions import import_extension  # type: ignore[import-not-found, unused-ignore]

_QUERIES = {
    # Each line is one text, which is not parsed.
    "lines": "COPY (SELECT line FROM read_csv('{url}', columns={{'line': 'VARCHAR'}}, header=false, delim='\\x01', "
    "quote='', escape='', auto_detect=false, strict_mode=false, max_line_size=16777216, compression='gzip')) "
    "TO '{output}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\\x01')",
    # Each line is parsed, kept as JSON and written again.
    "ndjson": "COPY (SELECT json FROM read_ndjson_objects('{url}', compression='gzip', maximum_object_size=16777216)) "
    "TO '{output}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\\x01')",
}


def main() -> None:
    """Copy once."""
    how, bucket, prefix, output = sys.argv[1:]
    import_extension("httpfs")
    connection = duckdb.connect()
    connection.execute("LOAD httpfs")
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', "
        f"SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', REGION '{os.environ['AWS_REGION']}', "
        f"ENDPOINT '{endpoint}', USE_SSL false, URL_STYLE 'path')"
    )
    connection.execute(_QUERIES[how].format(url=f"s3://{bucket}/{prefix}**/*.gz", output=output))


if __name__ == "__main__":
    main()
