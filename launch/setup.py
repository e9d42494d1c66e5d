from glob import glob

from setuptools import find_packages, setup

package_name = 'humanx'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(include=['humanx', 'humanx.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', sorted(glob('launch/*.launch.py'))),
        (f'share/{package_name}/config', sorted(glob('config/*.yaml'))),
        (f'share/{package_name}/rviz', sorted(glob('rviz/*.rviz'))),
        # colcon puts the folder bin of every package on PATH: `humanx` is a command, not only a `ros2 run` target.
        ('bin', ['bin/humanx']),
    ],
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='Brings up the graph of HumanX: launch files, parameters, RViz view and the humanx command.',
    license='Apache-2.0',
    extras_require={'test': ['pytest']},
    entry_points={
        'console_scripts': ['operator = humanx.operator:main', 'visualizer = humanx.visualizer:main'],
    },
)
