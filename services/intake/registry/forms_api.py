"""The route of forms: public, in the reader's language."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from services.intake.kernel import domain
from services.intake.kernel.domain import Account
from services.intake.kernel.web import MAY_FAIL, PUBLIC, context_of
from services.intake.registry import forms

Profile = Annotated[str, QueryParameter(max_length=120, description="Policy profile that the claim will name.")]
Language = Annotated[
    str | None, QueryParameter(max_length=35, description="`en`, `zh` or `de`; else by `Accept-Language`.")
]
AGE_S: Final = 300


@get(
    "/v1/forms",
    opt={"roles": PUBLIC},
    responses={
        200: ResponseSpec(forms.Form, description="The form", generate_examples=False),
        **MAY_FAIL,
    },
    security=[{}],
    tags=["forms"],
)
async def get_form(
    request: Request[Account, Any, Any], profile: Profile = "ipp", language: Language = None
) -> Response[bytes]:
    """What a claim's form needs: rights, reasons, evidence, number formats, limits, refusals with cures. Public."""
    chosen = forms.language_of(language, request.headers.get("accept-language"))
    settings = context_of(request).settings
    rules = domain.profile(profile, settings.pinned_policies, settings.profiles)
    headers = {
        "Content-Language": chosen,
        "Vary": "Accept-Language",
        "Cache-Control": f"public, max-age={AGE_S}",
    }
    return Response(
        forms.encoded(rules.version, chosen, domain.profiles_offered(settings.profiles)),
        media_type="application/json",
        headers=headers,
    )


ROUTES: Final = [get_form]
"""Routes of this part."""
