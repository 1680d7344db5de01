"""What a result file says: its protocol, by which two numbers are comparable or not, and its JSON schema."""
