"""Tryton as the ERP: its server is spoken to over JSON-RPC, none of its code is used."""

from gateway.uplink.erp.tryton.port import TrytonPort
from gateway.uplink.erp.tryton.settings import TrytonSettings

__all__ = ["TrytonPort", "TrytonSettings"]
