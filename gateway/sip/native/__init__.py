"""
The C library inside the pjsua2 extension, reached through ``ctypes``, and what is patched there. Thread: sip.

``library.py`` says how a patch gets in and what is checked before it. Each patch is a file: ``parser``, ``handles``,
``jitter_buffer``, ``dtmf_memory``, ``max_forwards``, ``register_id``, ``waker``, ``media_thread``, ``port_frames``.
Each checks what it relies on before it touches anything, and stays away if this build differs; ``guard.py`` keeps
exceptions out of C.
"""
