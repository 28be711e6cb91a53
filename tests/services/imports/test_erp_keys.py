"""When the key that seals secrets is changed, ERPs go on, and the old key is needed no more."""

from __future__ import annotations

import base64

from shared.context import SYSTEM
from shared.jobs import library
from shared.outbound import vault
from tests.services.imports.desk import Desk
from tests.services.imports.erp_desk import Erp


def test_secrets_of_erps_are_sealed_with_the_newest_key(desk: Desk) -> None:
    erp = Erp(desk)
    old = base64.b64encode(desk.service.app.secrets.encryption_keys[0]).decode()
    new = vault.new_key()
    try:
        vault.configure([new, old])
        job = desk.service.run_job(library.reseal_secrets, tenant_id=SYSTEM)
        assert (job.state, job.result) == ("succeeded", {"secrets": 2})
        vault.configure([new])
        erp.feed("samples", [{"external_id": "1", "title": "Kraft box"}])
        assert desk.service.run_job(library.reseal_secrets, tenant_id=SYSTEM).result == {"secrets": 0}
    finally:
        vault.configure([old])
