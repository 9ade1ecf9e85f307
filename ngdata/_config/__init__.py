"""Where the servers are and how to treat them: settings, their sources, URLs and TLS."""
