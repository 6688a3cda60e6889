"""
The C library inside the pjsua2 extension, reached through ``ctypes``, and what is patched there.

The extension exports the symbols of PJSIP, so functions that the binding hides can be called (``library.py``), and the
entries of its import table can be replaced (``import_slot.py``). Each patch is a file: ``gate``, ``message_body``,
``handles``, ``jitter_buffer``, ``key_memory``, ``max_forwards``, ``register_id``, ``waker``. Each checks what it
relies on before it touches anything, and stays away if this build differs; ``guard.py`` keeps exceptions out of C.
What is checked, and what happens without it: ``docs/decisions/0008-what-is-checked-before-the-wheel-is-patched.md``.
Thread: sip.
"""
