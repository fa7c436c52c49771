"""The settings of the project; the service has them too, so both use one database and one broker."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "for this example only"
DEBUG = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["orders"]
TIME_ZONE = "UTC"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "shop.db",
        "OPTIONS": {"timeout": 20},  # seconds to wait for another process that writes
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AMQP_URI = os.environ.get("AMQP_URI", "amqp://guest:guest@localhost:5672")
