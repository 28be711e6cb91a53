"""Money as a whole number of its currency's smallest unit: nothing is ever rounded twice."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final, Self

__all__ = ["Money"]

# ISO 4217: how many digits follow the point, where that is not two.
_DIGITS: Final = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF", "ISK"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the smallest unit of its currency (cents), the currency in ISO 4217."""

    amount: int
    currency: str

    @classmethod
    def parse(cls, amount: str, currency: str) -> Self:
        """From Shippo's decimal text: `("5.50", "USD")` is 550 cents. Raises ValueError."""
        try:
            value = Decimal(str(amount))
            currency = currency.upper()
            scaled = value.scaleb(_DIGITS.get(currency, 2)).quantize(Decimal(1), ROUND_HALF_UP)
            if not value.is_finite() or len(currency) != 3:
                raise ValueError("no amount of money")
        except (InvalidOperation, AttributeError) as error:
            raise ValueError("no amount of money") from error
        return cls(int(scaled), currency)
