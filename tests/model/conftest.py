from tests.untrained_network import photographs, restored, restored_with_metadata, untrained, vast

__all__ = ["photographs", "restored", "restored_with_metadata", "untrained", "vast"]
