"""The text of PDF files, page by page."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from malmat.errors import InputError
from malmat.text.duplicates import squeeze
from malmat.text.korean import normalize

FEWEST_LETTERS = 20
"""Of a page that is taken to have text: a scanned one may give its number alone."""


def pdf_pages(path: str | Path) -> list[str]:
    """The text of each page, "" for one that gives none (a picture, a lone page number).

    Lines of a paragraph are joined: a PDF breaks them where the page ends.

    Raises:
        InputError: no PDF that can be read, one with a password, or one whose pages are all
            pictures.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # the error below says it
    try:
        pages = [_page_text(page.extract_text() or "") for page in PdfReader(path).pages]
    except (FileNotDecryptedError, DependencyError):
        fix = "Save it without a password."
        raise InputError("an encrypted PDF", path=path, fix=fix) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", path=path) from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"no PDF that can be read ({reason})", path=path) from None
    if not any(pages):
        fix = "Give a PDF with text (run OCR on it first)."
        raise InputError("no page gives text: it holds pictures only", path=path, fix=fix)
    return pages


def _page_text(raw: str) -> str:
    text = normalize(raw.encode("utf-8", "replace").decode("utf-8")).replace("\0", "")
    return "" if len(squeeze(text)) < FEWEST_LETTERS else re.sub(r"(?<!\n)\n(?!\n)", " ", text)
