"""Keys, Content Credentials (C2PA) signing and verifying, as findings."""
