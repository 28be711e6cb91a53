"""Shipping's work in the back room. Each module's docstring says what its jobs promise."""

from services.shipping.jobs.addresses import validate_address, validate_addresses
from services.shipping.jobs.bulk import buy_labels, buy_order_label
from services.shipping.jobs.connection import verify_connection
from services.shipping.jobs.files import clean_up_label_files, copy_label_file
from services.shipping.jobs.purchase import purchase_label
from services.shipping.jobs.rates import shop_rates
from services.shipping.jobs.recheck import recheck_label
from services.shipping.jobs.reconciliation import recheck_unknown_labels, reconcile_nightly
from services.shipping.jobs.refunds import poll_refund, refund_label
from services.shipping.jobs.summary import count_summary
from services.shipping.jobs.tracking import look_up_tracking
from services.shipping.jobs.webhooks import process_webhook

__all__ = [
    "buy_labels",
    "buy_order_label",
    "clean_up_label_files",
    "copy_label_file",
    "count_summary",
    "look_up_tracking",
    "poll_refund",
    "process_webhook",
    "purchase_label",
    "recheck_label",
    "recheck_unknown_labels",
    "reconcile_nightly",
    "refund_label",
    "shop_rates",
    "validate_address",
    "validate_addresses",
    "verify_connection",
]
