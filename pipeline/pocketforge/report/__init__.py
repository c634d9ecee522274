"""Reports for people and programs: terminal tables, and the JSON schema of report.json."""
