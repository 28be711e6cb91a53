"""Files in a bucket of S3, or of whatever else speaks its protocol.

    s3://bucket/prefix?endpoint=https://minio.internal:9000&region=eu-central-1

A file is written in one request, or in parts of 8 MiB that S3 shows to nobody before the last one is
there, so that it appears whole or not at all, and never lies in memory as a whole either. At 10,000 parts
(S3's limit) a file ends at 78 GiB. What a killed process leaves of an upload is seen by nobody, but paid
for: have the bucket's lifecycle abort uploads that are a day old.

Credentials come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if there is one, `AWS_SESSION_TOKEN`,
and from nowhere else: asking a cloud for them would be a call to the outside in the middle of a request.
Signing an address (`url_for`) then needs no call, so that a request may do it; the other methods raise
`RuleViolation` in a request. The package `boto3` is the extra `s3`, imported when a store is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.blobs.store import BadKey, NoSuchBlob, check_key
from shared.outbound import guard

__all__ = ["S3Store"]

_PART: Final = 8 << 20
"""Bytes; S3 takes no smaller part than 5 MiB but the last."""
_CHUNK: Final = 1 << 16
_LONGEST_TTL: Final = 7 * 24 * 3600
"""Seconds; longer signatures S3 refuses."""
_MISSING: Final = ("NoSuchKey", "NotFound", "404")


class S3Store:
    """Keeps each blob as an object `<prefix>/<key>` of one bucket, which has to exist."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that names no bucket, without credentials, and without boto3."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.scheme != "s3" or not parts.hostname or parts.netloc != parts.hostname or parts.fragment:
            raise ValueError("a blob store in S3 is s3://bucket/prefix?endpoint=…&region=…")
        if unknown := set(options) - {"endpoint", "region"}:
            raise ValueError(f"a blob store in S3 knows no option {', '.join(sorted(unknown))}")
        self.bucket = parts.hostname
        self._prefix = [*check_key(unquote(parts.path).strip("/"))] if parts.path.strip("/") else []
        self._endpoint = options.get("endpoint") or None
        self._region = options.get("region") or _environment("AWS_REGION") or _environment("AWS_DEFAULT_REGION")
        key, secret = _environment("AWS_ACCESS_KEY_ID"), _environment("AWS_SECRET_ACCESS_KEY")
        if not key or not secret:
            raise ValueError("a blob store in S3 needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        self._credentials = (key, secret, _environment("AWS_SESSION_TOKEN"))
        self._owner = os.getpid()
        self._client = self._connect()

    def put(self, key: str, content: Iterable[bytes]) -> int:
        name = self._name(key)
        parts = _parts(content)
        first, last = next(parts)
        with self._calling() as client:
            if last:
                client.put_object(Bucket=self.bucket, Key=name, Body=first)
                return len(first)
            upload = client.create_multipart_upload(Bucket=self.bucket, Key=name)["UploadId"]
            try:
                return self._upload(client, name, upload, chain((first,), (part for part, _ in parts)))
            except BaseException:
                with suppress(Exception):  # what went wrong first is what counts
                    client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload)
                raise

    def get(self, key: str) -> Iterator[bytes]:
        name = self._name(key)
        with self._calling(key) as client:
            body = client.get_object(Bucket=self.bucket, Key=name)["Body"]
        return self._chunks(body)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._calling() as client:
            client.delete_object(Bucket=self.bucket, Key=name)

    def url_for(self, key: str, ttl: int, *, filename: str | None = None, media_type: str | None = None) -> str | None:
        if not 1 <= ttl <= _LONGEST_TTL:
            raise ValueError(f"an address is good for 1 to {_LONGEST_TTL} seconds")
        asked: dict[str, Any] = {"Bucket": self.bucket, "Key": self._name(key)}
        if filename is not None:
            if len(check_key(filename)) != 1:
                raise BadKey(f"no name of a file: {filename[:100]!r}")
            asked["ResponseContentDisposition"] = f'attachment; filename="{filename}"'
        if media_type is not None:
            asked["ResponseContentType"] = media_type
        return str(self._client.generate_presigned_url("get_object", Params=asked, ExpiresIn=ttl))

    def _name(self, key: str) -> str:
        return "/".join([*self._prefix, *check_key(key)])

    def _upload(self, client: Any, name: str, upload: str, parts: Iterable[bytes]) -> int:
        size, tags = 0, []
        where = {"Bucket": self.bucket, "Key": name, "UploadId": upload}
        for number, part in enumerate(parts, start=1):
            done = client.upload_part(**where, PartNumber=number, Body=part)
            tags.append({"PartNumber": number, "ETag": done["ETag"]})
            size += len(part)
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": tags})
        return size

    @contextmanager
    def _calling(self, key: str = "") -> Iterator[Any]:
        """Yield the client, in a process that may call; turn its errors into those that a store promises."""
        guard.check("blob store")
        if self._owner != os.getpid():
            # A forked child shares no connection with its parent.
            self._client, self._owner = self._connect(), os.getpid()
        with self._translated(key):
            yield self._client

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if key and code in _MISSING:
                raise NoSuchBlob(key) from None
            raise OSError(f"blob store: {code or error}") from error
        except BotoCoreError as error:
            raise OSError(f"blob store: {error}") from error

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with body, self._translated(""):
            yield from body.iter_chunks(_CHUNK)

    def _connect(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise ValueError("a blob store in S3 needs boto3: install backroom[s3]") from None
        key, secret, token = self._credentials
        session = boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)
        return session.client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=self._region or "us-east-1",
            config=Config(
                signature_version="s3v4",
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=16,
                # Others than AWS have no certificate for a name with the bucket's in front.
                s3={"addressing_style": "path" if self._endpoint else "auto"},
                # The checksums that AWS added in 2025 are unknown to older stores of other makers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def _parts(content: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut the content into parts of `_PART` bytes, each with whether it is the last, which may be shorter."""
    waiting = bytearray()
    for chunk in content:
        waiting += chunk
        while len(waiting) > _PART:  # a full part is the last one if nothing comes after it
            yield bytes(memoryview(waiting)[:_PART]), False
            del waiting[:_PART]
    yield bytes(waiting), True


def _environment(name: str) -> str | None:
    return os.environ.get(name) or None
