"""What imports does in the back room. Each module's docstring says what its jobs promise."""

from services.imports.jobs.images import clean_up_images, fetch_image, retry_images
from services.imports.jobs.run import run_import

__all__ = ["clean_up_images", "fetch_image", "retry_images", "run_import"]
