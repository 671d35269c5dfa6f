"""The versioned JSON documents that commands print and files hold."""
