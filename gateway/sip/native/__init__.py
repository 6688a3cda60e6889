"""The C library inside the pjsua2 extension, reached through ``ctypes``, and what is patched there."""
