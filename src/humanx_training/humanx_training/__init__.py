"""Offline side of HumanX: XGen (motion to clips) and XMimic (clips to policies)."""
