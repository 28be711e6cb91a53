"""What imports does in the back room. Each module's docstring says what its jobs promise."""

from services.imports.jobs.erp import apply_feed
from services.imports.jobs.erp_log import clean_up_erp_log
from services.imports.jobs.images import clean_up_images, fetch_image, retry_images
from services.imports.jobs.images_again import retry_import_images
from services.imports.jobs.pull import pull_all_erps, pull_erp
from services.imports.jobs.run import run_import
from services.imports.jobs.summary import count_summary
from services.imports.jobs.upkeep import clean_up_uploads, reconcile_nightly

__all__ = [
    "apply_feed",
    "clean_up_erp_log",
    "clean_up_images",
    "clean_up_uploads",
    "count_summary",
    "fetch_image",
    "pull_all_erps",
    "pull_erp",
    "reconcile_nightly",
    "retry_images",
    "retry_import_images",
    "run_import",
]
