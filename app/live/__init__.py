"""Live streams: new changes of the feed for the clients that listen."""
