"""What a build found: facts and values of each device, the gate, agreement of files, the report, the release."""
