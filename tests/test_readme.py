import re
from pathlib import Path


def commands(readme: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_the_checks_run_what_the_readme_tells_a_newcomer_to_run(repository: Path) -> None:
    setup_and_fit, check = commands((repository / "README.md").read_text())[:2]
    script = (repository / ".ci/run").read_text().splitlines()
    assert check in script
    *setup, fit = setup_and_fit.split(" && ")
    assert " && ".join(setup) in script
    assert fit in script


def test_every_link_of_the_readme_leads_somewhere(repository: Path) -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (repository / page).read_text()
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (repository / target).exists(), f"{page} links to {target}"


def test_every_config_the_readme_names_exists(repository: Path) -> None:
    named = re.findall(r"configs/[\w/]+\.yaml", (repository / "README.md").read_text())
    assert named
    assert all((repository / path).is_file() for path in named)
