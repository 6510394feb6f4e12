"""The pod's supervisor: speech servers, idle call processes, sessions bound to this pod; outside the media path."""
