"""``basicsr sample``."""

import argparse

from ne_basicsr.cli import command
from ne_basicsr.utils.errors import InputError


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.evaluation.sampling import Schedule
    from ne_basicsr.evaluation.sampling.tasks import parse_task

    command.check_least(arguments, draws=1, batch=1)
    task = parse_task(arguments.task)
    if task.kind == 'denoise' and arguments.sigma_start is not None:
        raise InputError(f'sample: the task {task} sets the noise level at the start; leave out --sigma-start')
    constants = {name: getattr(arguments, name) for name in Schedule._fields}
    schedule = task.schedule()._replace(**{k: v for k, v in constants.items() if v is not None}).check()
    device = command.chosen_device(arguments)

    from ne_basicsr.evaluation.report.tables import text_table, writing
    from ne_basicsr.evaluation.sampling.outputs import Collector
    from ne_basicsr.evaluation.sampling.session import Request, open_session
    from ne_basicsr.utils.folder_lock import hold

    networks = [arguments.network, *arguments.against]
    changed = {'networks': networks, 'task': task, 'schedule': schedule, 'device': device}
    session = open_session(command.given(arguments, Request, **changed))
    with writing(arguments.output), hold(arguments.output, 'choose another --output'):
        collector = Collector(session, arguments.output)
        for network, trajectory in session.run():
            collector.add(network, trajectory)
        page = collector.finish(command.typed(arguments))
    print(f'{text_table(collector.table())}\nReport: {page.resolve()}')
    return command.report_failures(session.failures)
