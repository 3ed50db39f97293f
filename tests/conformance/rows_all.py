"""The whole table, by section."""

from typing import Final

from tests.conformance.rows_control import CONTROL_ROWS
from tests.conformance.rows_domains import DOMAIN_ROWS
from tests.conformance.rows_errors import ERRORS
from tests.conformance.rows_messages import MESSAGES
from tests.conformance.rows_paths import PATHS
from tests.conformance.rows_permissions import PERMISSION_ROWS
from tests.conformance.rows_quotas import QUOTAS
from tests.conformance.rows_transactions import TRANSACTION_ROWS
from tests.conformance.rows_watches import WATCH_ROWS
from tests.conformance.table import rows

SECTIONS: Final = {
    "messages": MESSAGES,
    "paths": PATHS,
    "errors": ERRORS,
    "quotas": QUOTAS,
    "transactions": TRANSACTION_ROWS,
    "watches": WATCH_ROWS,
    "permissions": PERMISSION_ROWS,
    "domains": DOMAIN_ROWS,
    "control": CONTROL_ROWS,
}

TABLE: Final = rows(*SECTIONS.values())
