"""A gateway that dies, and one whose PostgreSQL is away: what callers hear, and that every call is settled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server, free_port
from tests.integration.books import NAMESPACE, SUBJECTS, number
from tests.integration.gateway_parts import dialing, open_large_books, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.own_postgres import OwnPostgres, own_postgres
from tests.integration.restored import open_world
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, sdk, until
from tests.integration.test_gateway import ready
from tests.integration.test_gateway_media import carrier_socket
from tests.integration.test_outage_redis import get, post
from websockets.asyncio.server import ServerConnection

from callfleet.hostservices import RedisServer
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_gateway import patience
from callfleet_operator.reconcile import attempts
from callfleet_simulator.calls import new_sid
