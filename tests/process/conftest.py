from tests.tiny_job import shared_root, tiny_job

__all__ = ["shared_root", "tiny_job"]
