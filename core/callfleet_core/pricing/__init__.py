"""Prices as data with dates of validity, what calls cost by them, and when a better voice is worth its price."""

from callfleet_core.pricing.book import PriceBook, PriceList, Rate, load_prices
from callfleet_core.pricing.calculator import CallBounds, CallUsage, CostCalculator, CostLine, total_micros
from callfleet_core.pricing.tier import PremiumPolicy, Tier, TierDecision, choose_tier

__all__ = [
    "CallBounds",
    "CallUsage",
    "CostCalculator",
    "CostLine",
    "PremiumPolicy",
    "PriceBook",
    "PriceList",
    "Rate",
    "Tier",
    "TierDecision",
    "choose_tier",
    "load_prices",
    "total_micros",
]
